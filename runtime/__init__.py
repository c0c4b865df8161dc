"""What every process of kommo-streams shares: settings, logs, metrics, health, problem answers, PostgreSQL, Redis."""
