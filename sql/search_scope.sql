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

-- Of an earlier release.
DROP FUNCTION IF EXISTS tidegate.entitlement_of(text, int, text, jsonb, jsonb, jsonb);

-- Every search waits for what follows: it asks the catalog in one query, and for the rest keeps to expressions that
-- PL/pgSQL evaluates by itself; each that holds a query costs as much as twenty of these.
CREATE OR REPLACE FUNCTION tidegate.entitlement_of(
    rules tidegate.rule[], principal text, claims jsonb, INOUT roles jsonb, INOUT attributes jsonb, OUT condition text, OUT tests jsonb)
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    rule tidegate.rule;
    piece jsonb;
    named text;
    held boolean;
    texts text[];
    rendered text;
    listed text;
    allowed text[] := '{}';
    needed text[] := '{}';
    open boolean := false;
BEGIN
    tests := '[]';
    FOREACH rule IN ARRAY rules LOOP
        held := rule.roles = '{}';
        FOREACH named IN ARRAY rule.roles LOOP
            IF claims IS NULL THEN
                held := coalesce(pg_has_role(to_regrole(quote_ident(principal)), to_regrole(quote_ident(named)), 'USAGE'), false);
            ELSE
                IF NOT roles ? named THEN
                    roles := roles || jsonb_build_object(named, tidegate.roles_act_as_of(ARRAY(SELECT jsonb_array_elements_text(claims -> 'roles')), named));
                END IF;
                held := (roles -> named)::boolean;
            END IF;
            EXIT WHEN held;
        END LOOP;
        CONTINUE WHEN NOT held;
        rendered := '';
        FOR place IN 0 .. jsonb_array_length(rule.condition) - 1 LOOP
            piece := rule.condition -> place;
            IF jsonb_typeof(piece) = 'string' THEN
                rendered := rendered || (piece #>> '{}');
            ELSIF piece ? 'attribute' THEN
                named := piece ->> 'attribute';
                IF NOT attributes ? named THEN
                    texts := CASE WHEN claims IS NULL THEN tidegate.attribute_texts_of(principal, named)
                                  ELSE tidegate.claim_texts_of(claims -> 'claims', claims -> 'map' ->> named) END;
                    attributes := attributes || jsonb_build_object(named, texts::text);
                END IF;
                texts := (attributes ->> named)::text[];
                rendered := rendered || CASE piece ->> 'function' WHEN 'attribute_texts' THEN quote_nullable(texts) || '::text[]'
                                             ELSE tidegate.attribute_literal_of(piece ->> 'function', texts) END;
            ELSIF piece ? 'member' THEN
                -- Few as a literal, many looked up by the statement itself: never one by one, which keeps indexes out.
                EXECUTE format('SELECT CASE WHEN NOT %s() THEN %s()::text END', piece ->> 'many', piece ->> 'member') INTO listed;
                rendered := rendered || CASE WHEN listed IS NOT NULL THEN format('(%s = ANY (%L::%s[]))', piece ->> 'column', listed, piece ->> 'type')
                                             ELSE format('(%s IN (SELECT unnest(%s())))', piece ->> 'column', piece ->> 'member') END;
            ELSE
                -- Not known to this release: nothing is narrowed.
                condition := 'true';
                tests := NULL;
                RETURN;
            END IF;
        END LOOP;
        -- What the rule asks of columns, where it is nothing but that. Of several that allow something it does not tell.
        tests := CASE WHEN rule.effect = 'deny' OR rule.effect = 'allow' AND allowed <> '{}' THEN NULL ELSE tests || rule.tests END;
        IF rule.effect = 'allow' THEN
            allowed := allowed || ('(' || rendered || ')');
            open := open OR rendered = 'true';
        ELSIF rule.effect = 'require' THEN
            needed := needed || ('(' || rendered || ')');
        ELSE
            needed := needed || ('((' || rendered || ') IS FALSE)');
        END IF;
    END LOOP;
    condition := CASE WHEN allowed = '{}' THEN 'false'
                      WHEN open THEN array_to_string(needed, ' AND ')
                      WHEN cardinality(allowed) = 1 THEN array_to_string(allowed || needed, ' AND ')
                      ELSE array_to_string(('(' || array_to_string(allowed, ' OR ') || ')') || needed, ' AND ') END;
    IF condition = '' THEN
        condition := 'true';
    END IF;
END
$$;
COMMENT ON FUNCTION tidegate.entitlement_of(tidegate.rule[], text, jsonb, jsonb, jsonb) IS
    'These rules as one condition on the row t, with this caller''s roles and values in it. tests: the same as tests of texts in columns, where it is no more than that; NULL elsewhere. Called by tidegate.search_targets alone, with its rights and search path.';

CREATE OR REPLACE FUNCTION tidegate.visible_share_of(statistics tidegate.access_statistics, tests jsonb, attributes jsonb) RETURNS float8
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    test jsonb;
    shares jsonb;
    share float8 := 0;
    wanted_one text;
    columns text[] := '{}';
    wanted text[] := '{}';
    texts text[];
    first text[];
    second text[];
    third text[];
BEGIN
    IF jsonb_array_length(tests) > 3 THEN
        RETURN NULL;
    END IF;
    FOR place IN 0 .. jsonb_array_length(tests) - 1 LOOP
        test := tests -> place;
        texts := CASE WHEN test ? 'attribute' THEN (attributes ->> (test ->> 'attribute'))::text[] ELSE ARRAY(SELECT jsonb_array_elements_text(test -> 'values')) END;
        IF (test -> 'only')::boolean THEN
            texts := ARRAY[tidegate.only_text(texts)];
        END IF;
        columns := columns || (test ->> 'column');
        wanted := wanted || texts::text;
    END LOOP;
    shares := statistics.shares -> columns[1];
    IF cardinality(columns) = 1 AND shares IS NOT NULL AND cardinality(texts) <= 100 THEN
        FOREACH wanted_one IN ARRAY texts LOOP
            share := share + coalesce((shares -> wanted_one)::float8, 0);
        END LOOP;
        RETURN share;
    END IF;
    first := wanted[1];
    second := wanted[2];
    third := wanted[3];
    RETURN (SELECT coalesce(sum(g.weight) FILTER (WHERE (columns[1] IS NULL OR g."row" ->> columns[1] = ANY (first))
                                                    AND (columns[2] IS NULL OR g."row" ->> columns[2] = ANY (second))
                                                    AND (columns[3] IS NULL OR g."row" ->> columns[3] = ANY (third))) / sum(g.weight), 0)
            FROM jsonb_to_recordset(statistics.groups) AS g (weight float8, "row" jsonb));
END
$$;
COMMENT ON FUNCTION tidegate.visible_share_of(tidegate.access_statistics, jsonb, jsonb) IS
    'The share of the chunks, by their groups, that pass all of these tests with these attributes; NULL where they are too many. As the rules'' condition would say, without the planning of a statement that has it. Called by tidegate.search_targets alone, with its search path.';

CREATE OR REPLACE FUNCTION tidegate.search_targets(products text[], filter jsonb)
RETURNS tidegate.search_target[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gateway text := tidegate.gateway();
    session_role text := tidegate.session_role();
    offered int[] := CASE WHEN gateway IS NOT NULL THEN ARRAY(SELECT tidegate.offered_products()) END;
    claims jsonb;
    roles jsonb := '{}';
    attributes jsonb := '{}';
    session_role_oid oid;
    unbound boolean;
    met text[] := '{}';
    named text;
    found_one record;
    target tidegate.search_target;
    targets tidegate.search_target[] := '{}';
    entitlement record;
    limits tidegate.search_limits;
    columns text;
    statistics tidegate.access_statistics;
    share float8;
    with_it boolean := false;
    without_it text;
BEGIN
    IF gateway IS NOT NULL THEN
        claims := tidegate.verified_claims();
        SELECT jsonb_build_object('claims', claims, 'map', i.attribute_map, 'roles', to_jsonb(coalesce(tidegate.token_roles(), '{}')))
        INTO claims FROM tidegate.token_issuer i WHERE i.issuer = claims ->> 'iss';
    END IF;
    SELECT r.oid, r.rolsuper OR r.rolbypassrls OR session_role = 'tidegate_worker' INTO session_role_oid, unbound FROM pg_roles r WHERE r.rolname = session_role;
    SELECT * INTO limits FROM tidegate.search_limits;
    FOR found_one IN
        SELECT p.product_id, p.product, p.domain, p.key_columns, p.model, p.dimension, p.source_server, p.live_function, p.state, p.state_reason,
               c.oid AS relation, c.reltuples AS chunks,
               EXISTS (SELECT FROM pg_proc f WHERE f.pronamespace = to_regnamespace(quote_ident('rag_' || p.domain)) AND f.proname = p.live_function AND f.proretset) AS live_takes_all,
               o.shows AS others_show,
               CASE WHEN o.there THEN coalesce(p.contract -> 'embedding' ->> 'language', 'english') END AS scanned_in,
               a.names, a.types,
               ARRAY(SELECT r FROM tidegate.rule r WHERE r.product_id = p.product_id ORDER BY r.place) AS rules,
               -- As tidegate.breaks_glass_of says.
               gateway IS NULL AND EXISTS (
                   SELECT FROM tidegate.break_glass b
                   WHERE b.principal = session_role AND b.role_oid = session_role_oid AND b.ended_at IS NULL AND b.expires_at > clock_timestamp()
                     AND (b.products IS NULL OR p.product = ANY (b.products))) AS breaks_glass
        FROM tidegate.product p
        JOIN pg_namespace n ON n.nspname = p.chunk_schema JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.chunk_table
        CROSS JOIN LATERAL (
            SELECT array_agg(t.attname::text) AS names, array_agg(format_type(t.atttypid, t.atttypmod)) AS types
            FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attnum > 0 AND NOT t.attisdropped) AS a
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
        target.key_types := '{}';
        FOREACH named IN ARRAY target.key_columns LOOP
            target.key_types := target.key_types || found_one.types[array_position(found_one.names, named)];
        END LOOP;
        target.embedding_type := found_one.types[array_position(found_one.names, 'embedding')];
        target.live_takes_all := found_one.live_takes_all;
        -- Through a gateway the token alone counts, and the session's own role is not even known there.
        entitlement := tidegate.entitlement_of(found_one.rules, CASE WHEN gateway IS NULL THEN session_role END, claims, roles, attributes);
        roles := entitlement.roles;
        attributes := entitlement.attributes;
        target.condition := CASE WHEN unbound OR found_one.breaks_glass THEN 'true' ELSE entitlement.condition END;
        target.scanned_in := found_one.scanned_in;
        target.reranked := limits.reranked;
        -- In a large graph a search may end among strangers: of 4,000 questions to a million vectors in 2,000 clusters, 3 found
        -- less than 7 of the nearest 10 at 400, 1 at 800.
        target.ef_search := CASE WHEN found_one.chunks > 500000 THEN least(2 * limits.ef_search, 1000) ELSE limits.ef_search END;
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
            SELECT * INTO statistics FROM tidegate.access_statistics s WHERE s.relation = found_one.relation;
            share := CASE WHEN target.condition = 'false' THEN 0
                          WHEN filter IS NULL AND statistics.relation IS NOT NULL AND entitlement.tests IS NOT NULL
                          THEN tidegate.visible_share_of(statistics, entitlement.tests, attributes) END;
            IF share IS NOT NULL THEN
                target.visible := share * found_one.chunks;
            ELSIF statistics.relation IS NOT NULL THEN
                SELECT string_agg(format('%I %s', u.name, u.type), ', ') INTO columns FROM unnest(found_one.names, found_one.types) AS u (name, type)
                WHERE u.name <> ALL ('{chunk_no,content,content_hash,embedding,codes,position,committed_at,indexed_at,contract_version}');
                EXECUTE format('SELECT coalesce(sum(g.weight) FILTER (WHERE (%s) AND (%s)) / sum(g.weight), 0) * $2 FROM jsonb_to_recordset($1) AS g (weight float8, "row" jsonb) CROSS JOIN LATERAL jsonb_to_record(g."row") AS t (%s)',
                               target.condition, target.filtered, columns)
                INTO target.visible USING CASE WHEN filter IS NULL THEN statistics.groups ELSE statistics.sample END, found_one.chunks;
            END IF;
        END IF;
        -- Estimated by the rules all the same: what others' policies show somebody is not told to everybody.
        IF found_one.others_show THEN
            target.condition := 'true';
        END IF;
        target.path := 'exact';
        IF target.visible > limits.exact_rows THEN
            -- HNSW takes a few milliseconds whatever it is asked, and loses its way where one row in ten or fewer counts.
            SELECT CASE WHEN bool_or(m.amname = 'hnsw' AND x.indexprs IS NOT NULL AND x.indpred IS NULL)
                             AND (target.visible > limits.code_rows OR target.visible > 10 * limits.exact_rows AND target.visible > 0.1 * found_one.chunks) THEN 'hnsw'
                        WHEN bool_or(y.relname LIKE '%\_access') THEN 'codes'
                        ELSE 'exact' END
            INTO target.path
            FROM pg_index x JOIN pg_class y ON y.oid = x.indexrelid JOIN pg_am m ON m.oid = y.relam
            WHERE x.indrelid = found_one.relation AND x.indisvalid;
        END IF;
        targets := targets || target;
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
    RETURN targets;
END
$$;
COMMENT ON FUNCTION tidegate.search_targets(text[], jsonb) IS
    'The chunk tables that a search by the caller goes to, with her own entitlement to each as a condition. Definer: reads the catalog, the rules and the private attributes, for the caller only.';

CREATE OR REPLACE FUNCTION tidegate.search_scope(products text[], filter jsonb DEFAULT NULL)
RETURNS SETOF tidegate.search_target
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT * FROM unnest(tidegate.search_targets(products, filter)) $$;
COMMENT ON FUNCTION tidegate.search_scope(text[], jsonb) IS
    'tidegate.search_targets, a row each. SECURITY INVOKER.';
