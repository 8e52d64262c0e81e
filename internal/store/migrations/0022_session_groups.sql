-- +goose Up
-- The groups that a trigger chose for the tokens of a session, in JSON; empty: those of the user.
ALTER TABLE pool_sessions ADD COLUMN chosen TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE pool_sessions DROP COLUMN chosen;
