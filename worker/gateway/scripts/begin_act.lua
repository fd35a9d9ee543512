#!lua flags=allow-oom
-- Notes that an act begins, unless it was begun before.
--
-- KEYS  1 answered:<digest>
-- ARGV  1 what is kept of it now, made for this request alone  2 seconds for which
--       3 1 where it begins only if the one before was refused
-- Returns nothing where it begins; else what is kept, '' where nothing is
--
-- A server that is full takes it all the same: acts are what may help it.
local kept = redis.call('GET', KEYS[1])
if kept == ARGV[1] then return nil end
if kept and kept ~= '-' then return kept end
if not kept and ARGV[3] == '1' then return '' end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return nil
