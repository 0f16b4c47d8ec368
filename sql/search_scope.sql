-- Where a search by the caller goes: the products, and her entitlement to each as one condition with typed, quoted
-- literals. It stands in the statement beside row-level security and only narrows; that lets the planner see what it
-- says. All that ends in _of takes the caller and is not for readers.
CREATE OR REPLACE FUNCTION tidegate.attribute_literal_of(accessor text, texts text[]) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD'
AS $$
BEGIN
    -- As the accessor of that name types it: NULL where it cannot be.
    RETURN CASE accessor
        WHEN 'attribute_text' THEN format('%L::text', tidegate.only_text(texts))
        WHEN 'attribute_texts' THEN format('%L::text[]', texts)
        WHEN 'attribute_uuid' THEN format('%L::uuid', tidegate.only_uuid(texts))
        WHEN 'attribute_uuids' THEN format('%L::uuid[]', tidegate.all_uuids(texts))
        WHEN 'attribute_bigint' THEN format('%L::bigint', tidegate.only_bigint(texts))
        WHEN 'attribute_bigints' THEN format('%L::bigint[]', tidegate.all_bigints(texts))
        WHEN 'attribute_numeric' THEN format('%L::numeric', tidegate.only_numeric(texts))
        WHEN 'attribute_numerics' THEN format('%L::numeric[]', tidegate.all_numerics(texts))
        WHEN 'attribute_boolean' THEN format('%L::boolean', tidegate.only_boolean(texts))
        WHEN 'attribute_booleans' THEN format('%L::boolean[]', tidegate.all_booleans(texts))
        WHEN 'attribute_timestamptz' THEN format('%L::timestamptz', tidegate.only_timestamptz(texts))
        WHEN 'attribute_timestamptzs' THEN format('%L::timestamptz[]', tidegate.all_timestamptzs(texts))
        WHEN 'attribute_date' THEN format('%L::date', tidegate.only_date(texts))
        WHEN 'attribute_dates' THEN format('%L::date[]', tidegate.all_dates(texts))
    END;
END
$$;
COMMENT ON FUNCTION tidegate.attribute_literal_of(text, text[]) IS
    'The value of an attribute as the policies'' accessor of this name gives it, as a typed, quoted literal.';

CREATE OR REPLACE FUNCTION tidegate.entitlement_of(
    product text, product_id int, principal text, INOUT roles jsonb, INOUT attributes jsonb, claims jsonb, OUT condition text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    rule record;
    piece jsonb;
    named text;
    held boolean;
    texts text[];
    rendered text;
    listed text;
    allowed text[] := '{}';
    needed text[] := '{}';
BEGIN
    IF claims IS NULL AND tidegate.breaks_glass_of(principal, product) THEN
        condition := 'true';
        RETURN;
    END IF;
    FOR rule IN SELECT r.effect, r.roles, r.condition FROM tidegate.rule r WHERE r.product_id = entitlement_of.product_id ORDER BY r.place LOOP
        held := rule.roles = '{}';
        FOREACH named IN ARRAY rule.roles LOOP
            IF NOT roles ? named THEN
                roles := roles || jsonb_build_object(named, CASE WHEN claims IS NULL THEN coalesce(pg_has_role(to_regrole(quote_ident(principal)), to_regrole(quote_ident(named)), 'USAGE'), false)
                    ELSE tidegate.roles_act_as_of(ARRAY(SELECT jsonb_array_elements_text(claims -> 'roles')), named) END);
            END IF;
            held := held OR (roles -> named)::boolean;
        END LOOP;
        CONTINUE WHEN NOT held;
        rendered := '';
        FOR piece IN SELECT p.piece FROM jsonb_array_elements(rule.condition) AS p (piece) LOOP
            IF jsonb_typeof(piece) = 'string' THEN
                rendered := rendered || (piece #>> '{}');
            ELSIF piece ? 'attribute' THEN
                named := piece ->> 'attribute';
                IF NOT attributes ? named THEN
                    texts := CASE WHEN claims IS NULL THEN tidegate.attribute_texts_of(principal, named)
                                  ELSE tidegate.claim_texts_of(claims -> 'claims', claims -> 'map' ->> named) END;
                    attributes := attributes || jsonb_build_object(named, to_jsonb(texts));
                END IF;
                texts := CASE WHEN jsonb_typeof(attributes -> named) = 'array' THEN ARRAY(SELECT jsonb_array_elements_text(attributes -> named)) END;
                rendered := rendered || CASE piece ->> 'function' WHEN 'attribute_texts' THEN format('%L::text[]', texts)
                                             ELSE tidegate.attribute_literal_of(piece ->> 'function', texts) END;
            ELSIF piece ? 'member' THEN
                -- Few as a literal, many looked up by the statement itself: never one by one, which keeps indexes out.
                EXECUTE format('SELECT CASE WHEN NOT %s() THEN %s()::text END', piece ->> 'many', piece ->> 'member') INTO listed;
                rendered := rendered || CASE WHEN listed IS NOT NULL THEN format('(%s = ANY (%L::%s[]))', piece ->> 'column', listed, piece ->> 'type')
                                             ELSE format('(%s IN (SELECT unnest(%s())))', piece ->> 'column', piece ->> 'member') END;
            ELSE
                -- Not known to this release: nothing is narrowed.
                condition := 'true';
                RETURN;
            END IF;
        END LOOP;
        IF rule.effect = 'allow' THEN
            allowed := allowed || ('(' || rendered || ')');
        ELSE
            needed := needed || CASE rule.effect WHEN 'require' THEN '(' || rendered || ')' ELSE '((' || rendered || ') IS FALSE)' END;
        END IF;
    END LOOP;
    condition := CASE WHEN allowed = '{}' THEN 'false'
                      ELSE array_to_string(CASE WHEN '(true)' = ANY (allowed) THEN needed
                                                WHEN cardinality(allowed) = 1 THEN allowed || needed
                                                ELSE ('(' || array_to_string(allowed, ' OR ') || ')') || needed END, ' AND ') END;
    IF condition = '' THEN
        condition := 'true';
    END IF;
END
$$;
COMMENT ON FUNCTION tidegate.entitlement_of(text, int, text, jsonb, jsonb, jsonb) IS
    'The rules in force as one condition on the row t, with this caller''s roles and values in it. Definer: reads the rules and the private attributes.';

CREATE OR REPLACE FUNCTION tidegate.search_scope(products text[], filter jsonb DEFAULT NULL)
RETURNS SETOF tidegate.search_target
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gateway text := tidegate.gateway();
    session_role text := tidegate.session_role();
    offered int[] := CASE WHEN gateway IS NOT NULL THEN ARRAY(SELECT tidegate.offered_products()) END;
    claims jsonb;
    roles jsonb := '{}';
    attributes jsonb := '{}';
    unbound boolean;
    met text[] := '{}';
    named text;
    found_one record;
    target tidegate.search_target;
    limits tidegate.search_limits;
    columns text;
    seen jsonb;
    with_it boolean := false;
    without_it text;
BEGIN
    IF gateway IS NOT NULL THEN
        claims := tidegate.verified_claims();
        SELECT jsonb_build_object('claims', claims, 'map', i.attribute_map, 'roles', to_jsonb(coalesce(tidegate.token_roles(), '{}')))
        INTO claims FROM tidegate.token_issuer i WHERE i.issuer = claims ->> 'iss';
    END IF;
    SELECT r.rolsuper OR r.rolbypassrls OR session_role = 'tidegate_worker' INTO unbound FROM pg_roles r WHERE r.rolname = session_role;
    SELECT * INTO limits FROM tidegate.search_limits;
    FOR found_one IN
        SELECT p.product_id, p.product, p.domain, p.key_columns, p.model, p.dimension, p.source_server, p.live_function, p.state, p.state_reason,
               c.oid AS relation, c.reltuples AS chunks, i.vector_index, i.access_index,
               EXISTS (SELECT FROM pg_proc f WHERE f.pronamespace = to_regnamespace(quote_ident('rag_' || p.domain)) AND f.proname = p.live_function AND f.proretset) AS live_takes_all,
               o.shows AS others_show,
               CASE WHEN o.there THEN coalesce(p.contract -> 'embedding' ->> 'language', 'english') END AS scanned_in
        FROM tidegate.product p
        JOIN pg_namespace n ON n.nspname = p.chunk_schema JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.chunk_table
        CROSS JOIN LATERAL (
            SELECT coalesce(bool_or(m.amname = 'hnsw' AND x.indexprs IS NOT NULL AND x.indpred IS NULL), false) AS vector_index,
                   coalesce(bool_or(y.relname LIKE '%\_access'), false) AS access_index
            FROM pg_index x JOIN pg_class y ON y.oid = x.indexrelid JOIN pg_am m ON m.oid = y.relam
            WHERE x.indrelid = c.oid AND x.indisvalid) AS i
        -- Policies of others that show rows are not in the rules; the literals must not hide what they show. All of them
        -- bind whom they are for, and not the definer function that reads words for her.
        CROSS JOIN LATERAL (
            SELECT coalesce(bool_or(l.polpermissive), false) AS shows, count(*) > 0 AS there
            FROM pg_policy l LEFT JOIN pg_description d ON d.objoid = l.oid AND d.classoid = 'pg_policy'::regclass AND d.objsubid = 0
            WHERE l.polrelid = c.oid AND l.polcmd IN ('r', '*') AND coalesce(d.description, '') NOT LIKE 'tidegate%') AS o
        -- As tidegate.offered_products says, which is asked itself where there is a gateway.
        WHERE CASE WHEN gateway IS NOT NULL THEN p.product_id = ANY (offered)
                   ELSE p.beside IS NULL AND has_schema_privilege(session_role, n.oid, 'USAGE') AND has_table_privilege(session_role, c.oid, 'SELECT') END
          AND (products IS NULL OR p.product = ANY (products))
        ORDER BY p.product
    LOOP
        IF found_one.state = 'suspended' THEN
            CONTINUE WHEN products IS NULL;
            RAISE EXCEPTION 'product "%" is suspended: %', found_one.product, found_one.state_reason USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
        met := met || found_one.product;
        CONTINUE WHEN gateway IS NOT NULL AND claims IS NULL;
        target.product := found_one.product;
        target.relation := found_one.relation;
        -- The table that this snapshot's catalog has, and its model's, wherever it is now: it may have changed places with
        -- the product's other index since.
        target.chunk_table := found_one.relation::regclass::text;
        target.key_columns := found_one.key_columns;
        target.model := found_one.model;
        target.dimension := found_one.dimension;
        target.elsewhere := found_one.source_server <> '';
        -- None where the rows are in another database, which no function here can ask.
        target.live_function := CASE WHEN found_one.live_function IS NOT NULL THEN format('%I.%I', 'rag_' || found_one.domain, found_one.live_function) END;
        SELECT array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY array_position(target.key_columns, a.attname::text))
                   FILTER (WHERE a.attname = ANY (target.key_columns)),
               min(format_type(a.atttypid, a.atttypmod)) FILTER (WHERE a.attname = 'embedding'),
               string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ') FILTER (WHERE a.attname <> ALL ('{chunk_no,content,content_hash,embedding,codes,position,committed_at,indexed_at,contract_version}'))
        INTO target.key_types, target.embedding_type, columns
        FROM pg_attribute a WHERE a.attrelid = found_one.relation AND a.attnum > 0 AND NOT a.attisdropped;
        target.live_takes_all := found_one.live_takes_all;
        SELECT e.roles, e.attributes, e.condition INTO roles, attributes, target.condition
        FROM tidegate.entitlement_of(found_one.product, found_one.product_id, CASE WHEN gateway IS NULL THEN session_role END, roles, attributes, claims) AS e;
        IF unbound THEN
            target.condition := 'true';
        END IF;
        target.scanned_in := found_one.scanned_in;
        target.reranked := limits.reranked;
        target.ef_search := limits.ef_search;
        -- Where no products are named, those that lack a column of the filter have no row that fits.
        IF products IS NULL AND jsonb_typeof(filter) = 'object' AND EXISTS (
            SELECT FROM jsonb_object_keys(filter) AS k (name)
            WHERE k.name NOT IN (SELECT o.name FROM tidegate.search_filters(target.product) AS o WHERE o.type NOT LIKE '%[]'))
        THEN
            without_it := coalesce(without_it, target.product);
            CONTINUE;
        END IF;
        with_it := true;
        target.filtered := CASE WHEN filter IS NULL THEN 'true' ELSE tidegate.filter_condition(target.product, filter) END;
        -- How many chunks are left, where that decides anything: the share of the groups, or of the sample, by weight.
        target.visible := found_one.chunks;
        IF found_one.chunks > 10 * limits.exact_rows AND (target.condition <> 'true' OR filter IS NOT NULL) THEN
            SELECT CASE WHEN filter IS NULL THEN s.groups ELSE s.sample END INTO seen FROM tidegate.access_statistics s WHERE s.relation = found_one.relation;
            IF seen IS NOT NULL THEN
                EXECUTE format('SELECT coalesce(sum(g.weight) FILTER (WHERE (%s) AND (%s)) / sum(g.weight), 0) * $2 FROM jsonb_to_recordset($1) AS g (weight float8, "row" jsonb) CROSS JOIN LATERAL jsonb_to_record(g."row") AS t (%s)',
                               target.condition, target.filtered, columns) INTO target.visible USING seen, found_one.chunks;
            END IF;
        END IF;
        -- Estimated by the rules all the same: what others' policies show somebody is not told to everybody.
        IF found_one.others_show THEN
            target.condition := 'true';
        END IF;
        -- HNSW takes a few milliseconds whatever it is asked, and loses its way where one row in ten or fewer counts.
        target.path := CASE WHEN found_one.vector_index AND (target.visible > limits.code_rows
                                                   OR target.visible > 10 * limits.exact_rows AND target.visible > 0.1 * found_one.chunks) THEN 'hnsw'
                            WHEN found_one.access_index AND target.visible > limits.exact_rows THEN 'codes'
                            ELSE 'exact' END;
        RETURN NEXT target;
    END LOOP;
    IF without_it IS NOT NULL AND NOT with_it THEN
        PERFORM tidegate.filter_condition(without_it, filter);
    END IF;
    FOREACH named IN ARRAY coalesce(products, '{}') LOOP
        IF named <> ALL (met) THEN
            RAISE EXCEPTION 'product "%" is not published, or not offered to role "%"', named, coalesce(tidegate.principal(), session_role)
                USING ERRCODE = 'undefined_object', HINT = 'SELECT product FROM tidegate.products lists what you may search.';
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION tidegate.search_scope(text[], jsonb) IS
    'The chunk tables that a search by the caller goes to, with her own entitlement to each as a condition. Definer: reads the catalog, the rules and the private attributes, for the caller only.';
