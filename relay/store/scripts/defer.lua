-- claimed -> due: some recipients are still open; try again later.
-- KEYS[1] {tag}:ledger
-- ARGV[1] delivery id  [2] token  [3] wait, ms  [4] record ('' unchanged)  [5] open recipients
-- ARGV[6] delivered now  [7] bounced now  [8] attempts to add (0 or 1)  [9] event ('' for none)
-- ARGV[10] lifetime of the story, ms  [11] '1' when the host failed, not the message
-- ARGV[12] pool, as configured now  [13] of unknown outcome
-- Returns 1 done, 0 not ours any more.
local id = ARGV[1]
local d = end_claim(id, ARGV[2])
if not d then return 0 end
local now = clock()
local due = now + tonumber(ARGV[3])
local key = delivery_key(id)
call('HDEL', key, 't', 'o')
if ARGV[4] ~= '' then call('HSET', key, 'r', ARGV[4], 'k', ARGV[5]) end
if ARGV[8] ~= '0' then call('HINCRBY', key, 'n', ARGV[8]) end
call('HSET', key, 'p', ARGV[12])
count(d, tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[13]))
if ARGV[9] ~= '' then
  call('HSET', key, 'e', ARGV[9])
  append_story(d.message, ARGV[9], ARGV[10])
end
call('ZADD', due_key(d.queue), due, id)
offer(d.queue, ARGV[12], due)
give_back(d.queue, ARGV[12], now, ARGV[6] ~= '0', ARGV[11] == '1')
wake()
return 1
