-- A queue that could go is left alone for a while: its host cannot be reached, its site's others can.
-- KEYS[1] {tag}:ledger
-- ARGV[1] queue  [2] lane  [3] ms
pass_when_full()
withdraw(ARGV[1], ARGV[2])
call('ZADD', agenda_key(), 'LT', clock() + ARGV[3], ARGV[1])
return 1
