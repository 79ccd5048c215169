-- A queue's site is known now (or is another one than was thought): it changes lanes.
-- KEYS[1] {tag}:ledger
-- ARGV[1] queue  [2] pool  [3] lane that it was in  [4] site
pass_when_full()
call('SET', site_key(ARGV[1]), ARGV[4], 'PX', SITE_MEMORY)
withdraw(ARGV[1], ARGV[3])
if call('XLEN', ready_key(ARGV[1])) > 0 then offer(ARGV[1], ARGV[2], clock()) end
return 1
