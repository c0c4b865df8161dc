"""The client of Kommo's API v4: who may speak for an account, how fast, and what every failure means."""
