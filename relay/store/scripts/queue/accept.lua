-- nothing -> ready: take responsibility for a message, all of it or nothing.
-- KEYS[1] {tag}:ledger (home shard)
-- ARGV[1] message id  [2] ledger  [3] recipients in all  [4] event  [5] lifetime of story, ms
-- ARGV[6] body, '' when its parts are there already  [7] parts  [8] lifetime of body, ms
-- ARGV[9] how long they are held for an operator, ms; 0: they are ready at once
-- ARGV[10] deliveries, then for each: id, queue, pool, slip, and for another shard what `enqueue`
--          needs there, '' for this one
-- Returns 1 accepted, 0 it was accepted before (a repeated call), -1 parts of the body are gone.
local message, ledger, recipients, event, lifetime = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local body, parts, body_lifetime = ARGV[6], tonumber(ARGV[7]), ARGV[8]
local wait, deliveries = tonumber(ARGV[9]), tonumber(ARGV[10])

-- The story is written here and outlives the message: if it is there, so was this call.
if call('EXISTS', story_key(message)) == 1 then return 0 end
-- A bounce frees more than its notice takes, and cannot happen without it.
if ledger == 'notices' then pass_when_full() end
if body ~= '' then
  call('SET', body_key(message, 0), body, 'PX', body_lifetime)
else
  for part = 0, parts - 1 do
    if call('PEXPIRE', body_key(message, part), body_lifetime) == 0 then return -1 end
  end
end
append_story(message, event, lifetime)
local now = clock()
for i = 0, deliveries - 1 do
  local at = 11 + i * 5
  local id, elsewhere = ARGV[at], ARGV[at + 4]
  if elsewhere == '' then
    begin(ARGV[at + 1], ARGV[at + 3], ARGV[at + 2], now, wait)
  else
    -- A script keeps to its shard: `enqueue` takes it there, at once or after a crash.
    call('HSET', outbox_key(), id, elsewhere)
  end
  if deliveries > 1 then call('SADD', open_key(message), id) end
end
if deliveries > 1 then call('PEXPIRE', open_key(message), body_lifetime) end
call('HINCRBY', TAG .. ':' .. ledger, 'accepted', recipients)
call('HINCRBY', TAG .. ':' .. ledger, 'queued', recipients)
return 1
