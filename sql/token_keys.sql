-- add --
INSERT INTO tidegate.token_key (kid, issuer, inner_pad, outer_pad, gateways, not_before, not_after)
VALUES (%(kid)s, %(issuer)s, %(inner_pad)s, %(outer_pad)s, %(gateways)s,
        coalesce(%(not_before)s, clock_timestamp()), %(not_after)s);

-- list --
SELECT k.kid, k.issuer, k.gateways,
       CASE WHEN k.revoked_at IS NOT NULL THEN 'revoked' WHEN k.not_after <= clock_timestamp() THEN 'ended'
            WHEN k.not_before > clock_timestamp() THEN 'waiting' ELSE 'good' END,
       k.not_before, k.not_after, k.revoked_at, k.added_by, k.added_at
FROM tidegate.token_key k ORDER BY k.issuer, k.added_at, k.kid;

-- revoke --
UPDATE tidegate.token_key SET revoked_at = clock_timestamp() WHERE kid = %(kid)s AND revoked_at IS NULL;

-- end --
UPDATE tidegate.token_key SET not_after = clock_timestamp() + %(left)s WHERE kid = %(kid)s AND revoked_at IS NULL;

-- issuer --
SELECT i.issuer, i.audience, i.principal_claim, i.roles_claim, i.role_map, i.attribute_map, extract(epoch FROM i.max_lifetime)::float8
FROM tidegate.token_key k JOIN tidegate.token_issuer i ON i.issuer = k.issuer WHERE k.kid = %(kid)s;

-- no_gateways --
-- Of these names, those that are no gateway's, so that a key bound to one would count nowhere.
SELECT n.name FROM unnest(%(gateways)s::text[]) AS n (name) LEFT JOIN pg_catalog.pg_roles r ON r.rolname = n.name
WHERE r.oid IS NULL OR r.rolsuper OR NOT pg_catalog.pg_has_role(r.oid, 'tidegate_gateway', 'USAGE');
