-- Why an operator did it, in the operator's words.
ALTER TABLE budget_actions ADD COLUMN reason text;
ALTER TABLE dead_letter_actions ADD COLUMN reason text;
