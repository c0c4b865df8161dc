"""The HTTP door for Kommo's webhooks."""
