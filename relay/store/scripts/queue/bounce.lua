-- claimed -> gone: no recipient is open, and some failed for good. The notice to the sender has
-- been accepted before this is called.
-- KEYS[1] {tag}:ledger
-- ARGV[1] delivery id  [2] token  [3] delivered now  [4] event  [5] lifetime of the story, ms
-- ARGV[6] of unknown outcome
-- Returns 1 done, 0 not ours any more, -1 it has ended already.
local d = end_claim(ARGV[1], ARGV[2])
if not d then return tell_absent(ARGV[1]) end
local delivered = tonumber(ARGV[3])
finish(d, delivered, d.recipients - delivered, tonumber(ARGV[6]), ARGV[4], ARGV[5])
return 1
