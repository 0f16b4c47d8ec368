-- set --
INSERT INTO tidegate.principal_attribute (principal, attribute, attribute_values)
VALUES (%(principal)s, %(attribute)s, %(values)s)
ON CONFLICT (principal, attribute) DO UPDATE
SET attribute_values = excluded.attribute_values, changed_by = session_user, changed_at = clock_timestamp();

-- unset --
DELETE FROM tidegate.principal_attribute
WHERE principal = %(principal)s
  AND (attribute = ANY (%(attributes)s) OR cardinality(%(attributes)s::text[]) = 0);

-- show --
SELECT a.attribute, CASE WHEN a.principal = %(principal)s THEN 'own' ELSE 'from ' || a.principal END, a.attribute_values
FROM tidegate.principal_attribute a
JOIN pg_catalog.pg_roles r ON r.oid = a.role_oid AND r.rolname = a.principal
WHERE a.principal = %(principal)s
   OR (NOT (SELECT p.rolsuper FROM pg_catalog.pg_roles p WHERE p.rolname = %(principal)s)
       AND pg_catalog.pg_has_role(%(principal)s, r.oid, 'USAGE'))
ORDER BY 1, 2;

-- list --
-- A role that was dropped, or made again, has nothing of what stands here under its name.
SELECT a.principal, CASE WHEN r.oid IS NULL THEN 'gone' WHEN r.rolcanlogin THEN 'login' ELSE 'group' END, a.attribute, a.attribute_values
FROM tidegate.principal_attribute a
LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.role_oid AND r.rolname = a.principal
ORDER BY 1, 3;

-- unread --
SELECT n.attribute
FROM unnest(%(attributes)s::text[]) AS n (attribute)
WHERE EXISTS (SELECT FROM tidegate.product)
  AND NOT EXISTS (SELECT FROM tidegate.product p CROSS JOIN LATERAL jsonb_array_elements(p.contract -> 'rules') AS r (rule)
                  WHERE r.rule ->> 'when' ~ ('\muser\.' || n.attribute || '\M'));
