-- claimed -> gone: every recipient that was open has the message now.
-- KEYS[1] {tag}:ledger
-- ARGV[1] delivery id  [2] token  [3] event  [4] lifetime of the story, ms
-- ARGV[5] of unknown outcome, assumed delivered
-- Returns 1 done, 0 not ours any more: somebody else decides about it, -1 it has ended already.
local d = end_claim(ARGV[1], ARGV[2])
if not d then return tell_absent(ARGV[1]) end
finish(d, d.recipients, 0, tonumber(ARGV[5]), ARGV[3], ARGV[4])
return 1
