#!lua flags=allow-oom
-- Keeps what became of an act, if it is still the one that was begun.
--
-- KEYS  1 answered:<digest>
-- ARGV  1 what was kept of it when it began  2 what is kept now  3 seconds for which
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
end
return nil
