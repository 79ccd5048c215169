-- A source that had rested met a host again.
-- KEYS[1] a key of the site's tag
-- ARGV[1] site  [2] source
if call('HDEL', rests_key(ARGV[1]), ARGV[2]) == 1 then
  wake(ARGV[1])
  return 1
end
return 0
