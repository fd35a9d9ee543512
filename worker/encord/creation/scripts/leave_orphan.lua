#!lua flags=allow-oom
-- Leaves word of what a run created after it lost its command, and owns it in the command's name.
--
-- KEYS  1 orphan
-- ARGV  1 command id  2 word  3 seconds that word and owner are kept
--       4 lock of what was created  5 lock of the creation, dropped if the command holds it
-- It lets nothing else into a full Redis, for nobody but the caller knows what it is told.
--
-- Rights: SET ARGV[4]  GET ARGV[4]  DEL ARGV[4]
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
redis.call('SET', ARGV[4], ARGV[1], 'NX', 'EX', ARGV[3])
if redis.pcall('GET', ARGV[5]) == ARGV[1] then redis.call('DEL', ARGV[5]) end
return 1
