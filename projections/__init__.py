"""Events folded into PostgreSQL tables, and the projector that runs the projections."""
