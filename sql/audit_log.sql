-- events --
SELECT a.audit_id, a.at, a.actor, a.kind, a.product, a.contract_version, a.subject, a.reason, a.before, a.after
FROM tidegate.audit a
WHERE (%(since)s::timestamptz IS NULL OR a.at >= %(since)s)
  AND (%(kind)s::text IS NULL OR a.kind = %(kind)s OR starts_with(a.kind, %(kind)s || ' '))
  AND (%(product)s::text IS NULL OR a.product = %(product)s)
ORDER BY a.audit_id DESC
LIMIT %(most)s;

-- known --
SELECT FROM tidegate.audit a WHERE a.product = %(product)s LIMIT 1;

-- begin --
SELECT tidegate.break_glass_begin(%(principal)s, %(reason)s, %(minutes)s, %(products)s);

-- end --
SELECT tidegate.break_glass_end(%(principal)s);

-- grants --
SELECT b.principal, b.products, b.reason, b.granted_by, b.granted_at, b.expires_at, b.ended_at
FROM tidegate.break_glass b
WHERE b.ended_at IS NULL AND b.expires_at > clock_timestamp()
ORDER BY b.granted_at;

-- record_apply --
-- The contract itself and its statements are in tidegate.contract_version, under this hash.
INSERT INTO tidegate.audit_event (actor, kind, product, contract_version, subject, before, after)
VALUES (coalesce(%(actor)s, session_user), 'apply', %(product)s, %(version)s, %(change_class)s, %(before)s, %(after)s);
