-- chunk_tables --
-- What row-level security and who owns it: every table in the schemas of products.
SELECT n.nspname, c.relname, c.relkind::text, c.relowner::regrole::text, c.relrowsecurity, c.relforcerowsecurity, c.oid,
       EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid OR i.inhrelid = c.oid),
       c.relhasrules, c.relispartition
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (%(schemas)s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
ORDER BY 1, 2;

-- schemas --
SELECT n.nspname, n.nspowner::regrole::text FROM pg_catalog.pg_namespace n WHERE n.nspname = ANY (%(schemas)s) ORDER BY 1;

-- policies --
SELECT p.polname, p.polpermissive, p.polcmd::text, p.polroles::regrole[]::text, pg_catalog.pg_get_expr(p.polqual, p.polrelid),
       pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid), pg_catalog.obj_description(p.oid, 'pg_policy')
FROM pg_catalog.pg_policy p WHERE p.polrelid = %(oid)s::oid
ORDER BY 1;

-- privileges --
-- Every privilege of somebody else than the owner on what is in these schemas, on them, and on columns.
SELECT o.kind, o.name, coalesce(g.grantee::regrole::text, 'PUBLIC'), g.privilege_type
FROM (
    SELECT 'schema' AS kind, n.nspname::text AS name, n.nspacl AS acl, n.nspowner AS owner
    FROM pg_catalog.pg_namespace n WHERE n.nspname = ANY (%(schemas)s)
    UNION ALL
    SELECT CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, c.oid::regclass::text, c.relacl, c.relowner
    FROM pg_catalog.pg_class c WHERE c.relnamespace::regnamespace::text = ANY (%(schemas)s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    UNION ALL
    SELECT 'column', c.oid::regclass::text || '.' || a.attname, a.attacl, c.relowner
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    WHERE c.relnamespace::regnamespace::text = ANY (%(schemas)s) AND a.attacl IS NOT NULL AND NOT a.attisdropped
    UNION ALL
    SELECT 'function', p.oid::regprocedure::text, coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)), p.proowner
    FROM pg_catalog.pg_proc p WHERE p.pronamespace::regnamespace::text = ANY (%(schemas)s)
) AS o
CROSS JOIN LATERAL (SELECT nullif(x.grantee, 0) AS grantee, x.privilege_type FROM pg_catalog.aclexplode(o.acl) AS x
                    WHERE x.grantee <> o.owner) AS g
ORDER BY 1, 2, 3, 4;

-- withdraw --
-- Inside the scratch transaction: nobody but the owner may do anything, and nothing has a comment.
DO $$
DECLARE
    named text;
    grantees text;
BEGIN
    FOR named IN SELECT n.nspname FROM pg_catalog.pg_namespace n
                 WHERE n.nspname = ANY (pg_catalog.string_to_array(pg_catalog.current_setting('tidegate.scratch'), ',')) AND n.nspowner = 'tidegate_owner'::regrole
    LOOP
        SELECT pg_catalog.string_agg(DISTINCT CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END, ', ') INTO grantees
        FROM (SELECT x.grantee FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) x WHERE c.relnamespace = named::regnamespace
              UNION SELECT x.grantee FROM pg_catalog.pg_proc p, pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) x WHERE p.pronamespace = named::regnamespace
              UNION SELECT x.grantee FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid, pg_catalog.aclexplode(a.attacl) x WHERE c.relnamespace = named::regnamespace
              UNION SELECT x.grantee FROM pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) x WHERE n.nspname = named) AS g
        WHERE g.grantee <> 'tidegate_owner'::regrole;
        IF grantees IS NOT NULL THEN
            EXECUTE pg_catalog.format('REVOKE ALL ON ALL TABLES IN SCHEMA %1$I FROM %2$s; REVOKE ALL ON ALL SEQUENCES IN SCHEMA %1$I FROM %2$s; REVOKE ALL ON ALL FUNCTIONS IN SCHEMA %1$I FROM %2$s; REVOKE ALL ON SCHEMA %1$I FROM %2$s', named, grantees);
        END IF;
    END LOOP;
    FOR named IN SELECT p.oid::regprocedure::text FROM pg_catalog.pg_proc p
                 WHERE p.pronamespace::regnamespace::text = ANY (pg_catalog.string_to_array(pg_catalog.current_setting('tidegate.scratch'), ',')) AND p.proowner = 'tidegate_owner'::regrole AND p.prokind = 'f'
    LOOP
        EXECUTE pg_catalog.format('COMMENT ON FUNCTION %s IS NULL', named);
    END LOOP;
END
$$;

-- functions --
SELECT p.oid::regprocedure::text, p.proowner::regrole::text, p.prosecdef, p.provolatile::text, p.proleakproof, p.proconfig, l.lanname::text,
       coalesce(p.prosrc, '') || coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), ''),
       pg_catalog.pg_get_function_result(p.oid), pg_catalog.obj_description(p.oid, 'pg_proc') IS NOT NULL
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE p.pronamespace::regnamespace::text = ANY (%(schemas)s)
ORDER BY 1;

-- control_relations --
SELECT c.relname, c.relkind::text, c.relowner::regrole::text,
       CASE c.relkind WHEN 'v' THEN pg_catalog.pg_get_viewdef(c.oid) || coalesce(c.reloptions::text, '') END
FROM pg_catalog.pg_class c
WHERE c.relnamespace = 'tidegate'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY 1;

-- triggers --
SELECT t.tgrelid::regclass::text, t.tgname, t.tgenabled::text, pg_catalog.pg_get_triggerdef(t.oid), t.tgfoid = pg_catalog.to_regproc('tidegate.keep_words'),
       encode(t.tgargs, 'escape')
FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
WHERE NOT t.tgisinternal AND c.relnamespace::regnamespace::text = ANY (%(schemas)s)
ORDER BY 1, 2;

-- table_rules --
SELECT r.ev_class::regclass::text, r.rulename
FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
WHERE r.rulename <> '_RETURN' AND c.relnamespace::regnamespace::text = ANY (%(schemas)s)
ORDER BY 1, 2;

-- views --
-- Who reads through a view or definer function reads with its owner's rights.
SELECT DISTINCT v.oid::regclass::text, v.relkind::text, b.oid::regclass::text, v.relowner::regrole::text,
       o.rolsuper OR o.rolbypassrls OR pg_catalog.pg_has_role(o.oid, 'tidegate_worker', 'USAGE'),
       coalesce('security_invoker=true' = ANY (v.reloptions) OR 'security_invoker=on' = ANY (v.reloptions), false)
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
JOIN pg_catalog.pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm')
JOIN pg_catalog.pg_class b ON b.oid = d.refobjid AND d.refclassid = 'pg_class'::regclass AND b.oid <> v.oid
JOIN pg_catalog.pg_roles o ON o.oid = v.relowner
WHERE b.relnamespace::regnamespace::text = ANY (%(schemas)s)
ORDER BY 1;

-- definers --
SELECT p.oid::regprocedure::text, p.proowner::regrole::text,
       o.rolsuper OR o.rolbypassrls OR pg_catalog.pg_has_role(o.oid, 'tidegate_worker', 'USAGE')
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_roles o ON o.oid = p.proowner
WHERE p.prosecdef AND p.pronamespace::regnamespace::text <> ALL (%(schemas)s::text[] || '{tidegate,pg_catalog,information_schema}'::text[])
  AND EXISTS (SELECT FROM unnest(%(schemas)s::text[]) AS s (name)
              WHERE pg_catalog.strpos(coalesce(p.prosrc, '') || coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), ''), s.name) > 0)
ORDER BY 1;

-- publications --
SELECT t.pubname, t.schemaname || '.' || t.tablename
FROM pg_catalog.pg_publication_tables t WHERE t.schemaname = ANY (%(schemas)s)
ORDER BY 1, 2;

-- uncaptured --
SELECT p.product, p.source_schema || '.' || p.source_table
FROM tidegate.product p
WHERE p.source_server = '' AND p.beside IS NULL
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_publication_tables t
                  WHERE t.pubname = 'tidegate' AND t.schemaname = p.source_schema AND t.tablename = p.source_table)
ORDER BY 1;

-- event_triggers --
SELECT e.evtname, e.evtevent FROM pg_catalog.pg_event_trigger e WHERE e.evtenabled <> 'D' ORDER BY 1;

-- group_roles --
SELECT r.rolname FROM pg_catalog.pg_roles r
WHERE r.rolname IN ('tidegate_owner', 'tidegate_worker', 'tidegate_reader', 'tidegate_admin', 'tidegate_gateway', 'tidegate_emergency')
  AND (r.rolsuper OR r.rolbypassrls OR r.rolcanlogin OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication)
ORDER BY 1;

-- bypassing --
SELECT r.rolname, CASE WHEN r.rolsuper THEN 'a superuser' ELSE 'BYPASSRLS' END, n.name
FROM pg_catalog.pg_roles r
CROSS JOIN LATERAL (SELECT min(g.rolname::text) AS name FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
                    WHERE m.member = r.oid AND g.rolname = ANY (%(roles)s)) AS n
WHERE (r.rolsuper OR r.rolbypassrls) AND (n.name IS NOT NULL OR r.rolname = ANY (%(roles)s))
ORDER BY 1;

-- powerful --
SELECT r.rolname, g.name
FROM pg_catalog.pg_roles r CROSS JOIN unnest('{tidegate_worker,tidegate_owner}'::text[]) AS g (name)
WHERE r.rolcanlogin AND NOT r.rolsuper AND pg_catalog.pg_has_role(r.oid, g.name, 'MEMBER')
ORDER BY 1, 2;

-- two_faced --
SELECT r.rolname, n.rolname
FROM pg_catalog.pg_roles r JOIN pg_catalog.pg_roles n ON n.rolname = ANY (%(roles)s) AND pg_catalog.pg_has_role(r.oid, n.oid, 'MEMBER')
WHERE NOT r.rolsuper AND r.rolname <> n.rolname AND pg_catalog.pg_has_role(r.oid, 'tidegate_gateway', 'MEMBER')
ORDER BY 1, 2;

-- glass --
SELECT b.principal, b.reason, b.expires_at FROM tidegate.break_glass b
WHERE b.ended_at IS NULL AND b.expires_at > clock_timestamp() ORDER BY b.granted_at;

-- glass_left --
SELECT r.rolname FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.member
WHERE m.roleid = 'tidegate_emergency'::regrole AND r.rolname <> 'tidegate_owner'
  AND NOT EXISTS (SELECT FROM tidegate.break_glass b WHERE b.principal = r.rolname AND b.ended_at IS NULL AND b.expires_at > clock_timestamp())
ORDER BY 1;

-- catalogued_rules --
SELECT p.chunk_schema || '.' || p.chunk_table, coalesce(jsonb_agg(to_jsonb(r) - 'product_id' ORDER BY r.place) FILTER (WHERE r.place IS NOT NULL), '[]')
FROM tidegate.product p LEFT JOIN tidegate.rule r USING (product_id) GROUP BY 1;

-- published --
-- Each index as it really embeds: the columns that it needs of the source are granted for it.
SELECT p.contract || CASE WHEN p.own_embedding IS NULL THEN '{}' ELSE jsonb_build_object('embedding', p.own_embedding) END
                  || CASE WHEN p.beside IS NULL THEN '{}' ELSE '{"beside": true}'::jsonb END, p.source_server
FROM tidegate.product p ORDER BY p.product;
