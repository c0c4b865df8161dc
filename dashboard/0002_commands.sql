-- Who may give commands, beside reading: nobody, unless that is said when a token or code is made.

ALTER TABLE kommo.access_tokens ADD COLUMN commands boolean NOT NULL DEFAULT false;
