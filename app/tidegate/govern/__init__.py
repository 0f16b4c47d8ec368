"""Contract to database: apply, policies, principals."""
