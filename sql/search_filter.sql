-- Filters of a search: what the contract offers, compared with typed, quoted literals.
CREATE OR REPLACE FUNCTION tidegate.search_filters(product text) RETURNS TABLE (name text, type text, expression text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    -- An enum is compared as text: its type may be in a schema that the caller may not look into. No type has a size
    -- here: a value is compared as it is, not cut or rounded to what the column takes.
    SELECT a.attname::text, CASE y.typtype WHEN 'e' THEN 'text' ELSE format_type(a.atttypid, -1) END,
           format(CASE y.typtype WHEN 'e' THEN 't.%I::text' ELSE 't.%I' END, a.attname)
    FROM tidegate.product p
    CROSS JOIN LATERAL jsonb_array_elements(p.contract -> 'columns') WITH ORDINALITY AS e (column_, place)
    JOIN pg_attribute a ON a.attrelid = to_regclass(format('%I.%I', p.chunk_schema, p.chunk_table)) AND a.attname = e.column_ ->> 'name'
    JOIN pg_type y ON y.oid = a.atttypid
    WHERE p.product = search_filters.product AND (e.column_ ->> 'filterable')::boolean
      AND p.product_id IN (SELECT tidegate.offered_products())
    ORDER BY e.place
$$;
COMMENT ON FUNCTION tidegate.search_filters(text) IS
    'The columns that a search of the product may filter by, tagged filter in its contract. Definer: reads the catalog, of products that the caller may search.';

CREATE OR REPLACE FUNCTION tidegate.filter_literal(product text, name text, type text, given jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD'
AS $$
DECLARE
    written text;
    numeric_type boolean := type ~ '^(smallint|integer|bigint|numeric|real|double precision)';
BEGIN
    -- Numbers for numbers, truth values for these, text for all else; text is taken for any type that reads it.
    IF jsonb_typeof(given) = 'string' OR (jsonb_typeof(given) = 'number' AND numeric_type) OR (jsonb_typeof(given) = 'boolean' AND type = 'boolean') THEN
        EXECUTE format('SELECT (%L::%s)::text', given #>> '{}', type) INTO written;
        RETURN format('%L::%s', written, type);
    END IF;
    RAISE data_exception;
EXCEPTION WHEN data_exception OR invalid_text_representation THEN
    RAISE EXCEPTION 'filter "%": % is no % of product "%"', name, given, type, product USING ERRCODE = 'invalid_parameter_value',
        HINT = 'A value, a list of values, null, or an object of gt, gte, lt, lte, ne, not.';
END
$$;
COMMENT ON FUNCTION tidegate.filter_literal(text, text, text, jsonb) IS
    'A value of a filter as a literal of the column''s type. Times without a zone are UTC.';

CREATE OR REPLACE FUNCTION tidegate.filter_condition(product text, filter jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked record;
    test record;
    type text;
    subject text;
    conditions text[] := '{}';
BEGIN
    IF filter IS NULL OR filter = '{}' THEN
        RETURN 'true';
    ELSIF jsonb_typeof(filter) <> 'object' THEN
        RAISE EXCEPTION 'filter is %', filter USING ERRCODE = 'invalid_parameter_value', HINT = 'It is an object: {"column": value, …}.';
    END IF;
    FOR asked IN SELECT f.key AS name, f.value FROM jsonb_each(filter) AS f LOOP
        SELECT o.type, o.expression INTO type, subject FROM tidegate.search_filters(product) AS o WHERE o.name = asked.name;
        IF NOT FOUND OR type LIKE '%[]' THEN
            RAISE EXCEPTION 'filter "%": product "%" offers no such column', asked.name, product USING ERRCODE = 'undefined_column',
                HINT = 'It offers: ' || coalesce((SELECT string_agg(format('%s (%s)', o.name, o.type), ', ') FROM tidegate.search_filters(product) AS o WHERE o.type NOT LIKE '%[]'), 'none')
                    || '. To offer another, give its column tags: [filter] in the contract, and apply that.';
        END IF;
        CASE jsonb_typeof(asked.value)
            WHEN 'null' THEN
                conditions := conditions || format('%s IS NULL', subject);
            WHEN 'array' THEN
                -- null in a list is one of its values.
                conditions := conditions || format('(%s IN (%s)%s)', subject,
                    (SELECT coalesce(string_agg(tidegate.filter_literal(product, asked.name, type, e.value), ', '), 'NULL')
                     FROM jsonb_array_elements(asked.value) AS e (value) WHERE jsonb_typeof(e.value) <> 'null'),
                    CASE WHEN asked.value @> '[null]' THEN format(' OR %s IS NULL', subject) ELSE '' END);
            WHEN 'object' THEN
                FOR test IN SELECT o.key AS word, o.value FROM jsonb_each(asked.value) AS o LOOP
                    IF test.word IN ('gt', 'gte', 'lt', 'lte') THEN
                        conditions := conditions || format('%s %s %s', subject,
                            CASE test.word WHEN 'gt' THEN '>' WHEN 'gte' THEN '>=' WHEN 'lt' THEN '<' ELSE '<=' END,
                            tidegate.filter_literal(product, asked.name, type, test.value));
                    ELSIF test.word IN ('ne', 'not') AND jsonb_typeof(test.value) = 'null' THEN
                        conditions := conditions || format('%s IS NOT NULL', subject);
                    ELSIF test.word IN ('ne', 'not') THEN
                        conditions := conditions || format('%s IS DISTINCT FROM %s', subject, tidegate.filter_literal(product, asked.name, type, test.value));
                    ELSE
                        RAISE EXCEPTION 'filter "%": there is no test "%"', asked.name, test.word USING ERRCODE = 'invalid_parameter_value',
                            HINT = 'There are gt, gte, lt, lte, ne, not.';
                    END IF;
                END LOOP;
            ELSE
                conditions := conditions || format('%s = %s', subject, tidegate.filter_literal(product, asked.name, type, asked.value));
        END CASE;
    END LOOP;
    RETURN array_to_string(conditions, ' AND ');
END
$$;
COMMENT ON FUNCTION tidegate.filter_condition(text, jsonb) IS
    'A filter as a condition on the row t. Only columns that the contract offers; values become typed, quoted literals.';
