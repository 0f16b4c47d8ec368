"""A contract against the database: what would have to be done, as the statements that do it.

`unfit` says why a contract cannot be put in force, `index_steps` makes one index with its tables, `columns`,
`policies` and `readers`, `catalog_entry` publishes it; `product_plan` puts these in order.
"""

from tidegate.govern.plan.plan import Plan
from tidegate.govern.plan.product_plan import make_plan
from tidegate.govern.plan.setting import Setting, setting_in_force
from tidegate.govern.plan.step import Step
from tidegate.govern.plan.unfit import ContractUnfit

__all__ = ["ContractUnfit", "Plan", "Setting", "Step", "make_plan", "setting_in_force"]
