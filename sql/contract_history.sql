-- For administrators: a line a published version. A product that was applied again under one version has more.
CREATE OR REPLACE VIEW tidegate.contract_history AS
SELECT v.product, v.version, v.applied_at, v.applied_by, v.change_class, v.changes,
       p.product IS NOT NULL AS in_force, v.contract_text
FROM tidegate.contract_version v
LEFT JOIN tidegate.product p ON p.product = v.product AND p.contract_version = v.version AND p.contract_text = v.contract_text;
COMMENT ON VIEW tidegate.contract_history IS
    'Every contract that was published: who, when, the class of what it changed, and the changes; in_force: published now.';
