-- Somebody complains about a message, or a host that took it gives it back: counted once.
-- KEYS[1] {tag}:ledger (home shard)
-- ARGV[1] message id  [2] what is counted once: kind and recipient  [3] event
-- ARGV[4] signal for workers, '' for none  [5] how many signals may wait
-- ARGV[6] how long it is remembered, ms: not shorter than any story
-- Returns 1 counted, 0 it was before, -1 the message is not known (any more).
local message = ARGV[1]
-- Before anything is written: ids that somebody made up cost nothing.
if call('EXISTS', story_key(message)) == 0 then return -1 end
if call('SADD', feedback_key(message), ARGV[2]) == 0 then return 0 end
call('PEXPIRE', feedback_key(message), ARGV[6])
append_story(message, ARGV[3], '') -- and its lifetime stays as it is
if ARGV[4] ~= '' then
  call('LPUSH', signals_key(), ARGV[4])
  call('LTRIM', signals_key(), 0, tonumber(ARGV[5]) - 1) -- nobody takes them: the oldest go
end
return 1
