"""What a domain promises: ODCS model, access rules."""
