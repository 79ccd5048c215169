-- How many deliveries of a lane are ready? Others claim from it too.
-- KEYS[1] {tag}:ledger
-- ARGV[1] lane
-- Returns the number, about.
pass_when_full()
return count_ready(ARGV[1])
