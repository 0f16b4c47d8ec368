-- set --
INSERT INTO tidegate.token_issuer AS i (issuer, audience, principal_claim, roles_claim, role_map, attribute_map, max_lifetime)
VALUES (%(issuer)s, %(audience)s, %(principal_claim)s, %(roles_claim)s, %(role_map)s, %(attribute_map)s, %(max_lifetime)s)
ON CONFLICT (issuer) DO UPDATE
SET audience = excluded.audience, principal_claim = excluded.principal_claim, roles_claim = excluded.roles_claim,
    role_map = excluded.role_map, attribute_map = excluded.attribute_map, max_lifetime = excluded.max_lifetime,
    changed_by = session_user, changed_at = clock_timestamp();

-- list --
SELECT issuer, audience, principal_claim, roles_claim, role_map, attribute_map, extract(epoch FROM max_lifetime)::float8
FROM tidegate.token_issuer ORDER BY issuer;

-- remove --
DELETE FROM tidegate.token_issuer WHERE issuer = %(issuer)s;

-- unfit_roles --
-- Roles that a claim must not stand for, each with the reason.
SELECT n.name, CASE WHEN r.oid IS NULL THEN 'there is no such role' WHEN r.rolsuper THEN 'it is a superuser'
                    ELSE 'it is one of tidegate''s own' END
FROM unnest(%(roles)s::text[]) AS n (name) LEFT JOIN pg_catalog.pg_roles r ON r.rolname = n.name
WHERE r.oid IS NULL OR r.rolsuper OR n.name LIKE 'tidegate\_%%';
