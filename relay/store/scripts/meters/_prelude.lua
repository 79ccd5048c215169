-- What counts, and nothing that mail depends on. Before this file come `call`, `clock`, TAG, WAKE and the
-- key functions.

-- A full store is when numbers are wanted most; how many there can be is bounded. See
-- ../queue/_prelude.lua: what begins with a write that costs no memory is let through.
local function pass_when_full()
  call('PERSIST', counters_key())
end
