-- agenda of a pool that is gone -> agenda of another: a queue can be claimed again.
-- KEYS[1] {tag}:ledger
-- ARGV[1] queue  [2] pool that is gone  [3] pool that takes over
-- ARGV[4] for how long nobody must have looked at the queue, ms: a pool that is not in this worker's
--         configuration may be in that of others, which then look every few seconds
-- Returns 1 done, 0 the queue is not there (any more), or is looked after.
pass_when_full()
local time = call('ZSCORE', agenda_key(ARGV[2]), ARGV[1])
if not time or tonumber(time) > clock() - tonumber(ARGV[4]) then return 0 end
call('ZREM', agenda_key(ARGV[2]), ARGV[1])
offer(ARGV[1], ARGV[3], time)
wake()
return 1
