"""The agent `commands`: what is asked of Kommo is carried out once, or ends with the reason why not."""
