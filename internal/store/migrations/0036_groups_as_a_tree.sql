-- +goose Up
-- What is below a group is listed as a tree is walked.
DROP INDEX thing_groups_by_path;
CREATE INDEX thing_groups_by_tree ON thing_groups (account, region, (path || name || '/'));

-- +goose Down
SELECT 1;
