#!lua flags=allow-oom
-- Leaves word of what a run created after it lost its command, and owns it in the command's name.
--
-- KEYS  1 orphan  2 the command's row
-- ARGV  1 command id  2 word  3 seconds that word and owner are kept
--       4 lock of what was created  5 lock of the creation, dropped if the command holds it
--       6 origin of the command's entry
-- Returns 1 left, 0 the command has another one by now
-- It lets nothing else into a full Redis, for nobody but the caller knows what it is told.
--
-- A command that was in doubt meanwhile may have adopted what an identical one created. Owned by it
-- too, this one would be nobody's; so it stays free for the other, who is in doubt as well.
--
-- Rights: HMGET 2  SET ARGV[4]  GET ARGV[4]  DEL ARGV[4]
local is = redis.pcall('HMGET', KEYS[2], 's', 'h', 'q')
local has_one = not is['err'] and is[3] == ARGV[6] and (is[1] == 'succeeded' or is[2] == 'applied')
if not has_one then
  redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
  redis.call('SET', ARGV[4], ARGV[1], 'NX', 'EX', ARGV[3])
end
if redis.pcall('GET', ARGV[5]) == ARGV[1] then redis.call('DEL', ARGV[5]) end
return has_one and 0 or 1
