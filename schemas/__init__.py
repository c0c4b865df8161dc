"""What flows through kommo-streams: the webhook form, the events, the errors. Pure functions, no I/O."""
