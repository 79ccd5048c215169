-- due -> claimed, as `seize` does with what is ready.
-- KEYS[1] {tag}:ledger
-- ARGV[1] queue  [2] token  [3] lease, ms  [4] how many to pass over  [5] deliveries to look at
-- ARGV[6] ... messages that are meant; none: all
-- Returns {how many were looked at and not taken, or -1 at the end, {0, queue, slip, last event, ''} ...}.
pass_when_full()
local now, queue, meant, found = clock(), ARGV[1], {}, {}
for i = 6, #ARGV do meant[ARGV[i]] = true end
local first, count, passed = tonumber(ARGV[4]), tonumber(ARGV[5]), 0
local ids = call('ZRANGE', due_key(queue), first, first + count - 1)
for _, id in ipairs(ids) do
  local d = read_kept(call('HGET', records_key(), id))
  if #ARGV < 6 or meant[d.message] then
    call('ZREM', due_key(queue), id)
    found[#found + 1] = hold(queue, d, make_slip(d), ARGV[2], now + ARGV[3])
  else
    passed = passed + 1
  end
end
table.insert(found, 1, #ids == count and passed or -1)
return found
