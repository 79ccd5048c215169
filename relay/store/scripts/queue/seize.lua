-- ready -> claimed, past all gates: for what is to be ended, or moved, by expiry or by an operator.
-- KEYS[1] {tag}:ledger
-- ARGV[1] queue  [2] token  [3] lease, ms  [4] accepted before, s ('' for whenever)  [5] where to
--         begin: '-', or what the last call returned  [6] deliveries to look at  [7] ... messages
--         that are meant; none: all
-- Returns {where to go on or '', {0, queue, slip, last event, ''} ...}.
pass_when_full()
local now, queue, token, before = clock(), ARGV[1], ARGV[2], tonumber(ARGV[4])
local meant, found = {}, {}
for i = 7, #ARGV do meant[ARGV[i]] = true end

local function is_meant(d)
  if #ARGV >= 7 and not meant[d.message] then return false end
  -- A record begins: array of 4, float. (cmsgpack knows no octets, which come behind it.)
  return not before or struct.unpack('>d', d.record, 3) < before
end

local entries = call('XRANGE', ready_key(queue), ARGV[5], '+', 'COUNT', ARGV[6])
for _, entry in ipairs(entries) do
  local slip = entry[2][2]
  local d = read_slip(slip)
  if is_meant(d) then
    call('XDEL', ready_key(queue), entry[1])
    found[#found + 1] = hold(queue, d, slip, token, now + ARGV[3])
  end
end
-- In its lane it stays until the next claim, which finds it empty.
if call('XLEN', ready_key(queue)) == 0 then call('DEL', ready_key(queue)) end
local last = entries[#entries]
table.insert(found, 1, #entries == tonumber(ARGV[6]) and '(' .. last[1] or '')
return found
