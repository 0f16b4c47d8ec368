-- readers --
-- The roles that rules name, and who has them: logins, and roles of whom attributes are known. Superusers see all.
SELECT r.rolname,
       r.rolname = ANY (%(roles)s) AS named,
       r.rolbypassrls,
       count(*) OVER ()
FROM pg_catalog.pg_roles r
WHERE NOT r.rolsuper AND r.rolname !~ '^(tidegate_|pg_)'
  AND (r.rolname = ANY (%(roles)s)
       OR ((r.rolcanlogin OR EXISTS (SELECT FROM tidegate.principal_attribute a WHERE a.role_oid = r.oid))
           AND EXISTS (SELECT FROM pg_catalog.pg_roles n
                       WHERE n.rolname = ANY (%(roles)s) AND pg_catalog.pg_has_role(r.oid, n.oid, 'USAGE'))))
ORDER BY named DESC, r.rolname
LIMIT %(most)s;

-- chunk_columns --
SELECT a.attname
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND a.attnum > 0 AND NOT a.attisdropped;
