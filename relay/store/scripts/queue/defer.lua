-- claimed -> due (or ready, with no wait): some recipients are still open; try again later.
-- KEYS[1] {tag}:ledger
-- ARGV[1] delivery id  [2] token  [3] wait, ms  [4] record ('' unchanged)  [5] open recipients
-- ARGV[6] delivered now  [7] bounced now  [8] attempts to add (0 or 1)  [9] event ('' for none)
-- ARGV[10] lifetime of the story, ms  [11] pool, as configured now  [12] of unknown outcome
-- ARGV[13] source that must go next, '' any, '=' as it was
-- Returns 1 done, 0 not ours any more.
local d = end_claim(ARGV[1], ARGV[2])
if not d then return 0 end
local now, wait, event, pin = clock(), tonumber(ARGV[3]), ARGV[9], ARGV[13]
count(d, tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[12]))
if ARGV[4] ~= '' then d.record, d.recipients = ARGV[4], tonumber(ARGV[5]) end
d.attempts, d.falls, d.pool = d.attempts + tonumber(ARGV[8]), 0, ARGV[11]
if pin ~= '=' then
  local site = call('GET', site_key(d.queue))
  d.queue = string.match(d.queue, '^[^@]*') .. (pin ~= '' and '@' .. pin or '')
  if site then call('SET', site_key(d.queue), site, 'PX', SITE_MEMORY) end
end
if event ~= '' then
  if d.attempts > 0 then call('HSET', last_key(), d.id, event) end
  append_story(d.message, event, ARGV[10])
end
if wait > 0 then
  keep(d)
  wait_until(d.queue, d.id, now + wait)
else
  call('HDEL', records_key(), d.id)
  put(d.queue, make_slip(d), d.pool, now)
end
return 1
