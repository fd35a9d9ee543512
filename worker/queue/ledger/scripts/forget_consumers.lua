#!lua
-- Removes consumers that hold nothing: those idle for long, or one by name.
--
-- KEYS  1 a stream of commands
-- ARGV  1 group  2 idle for at least, in ms  3 name or ""
-- Returns how many were removed. One script, so that none of them gets an entry meanwhile.
local removed = 0
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local is = {}
  for i = 1, #consumer, 2 do is[consumer[i]] = consumer[i + 1] end
  local wanted = ARGV[3] == '' or is['name'] == ARGV[3]
  if wanted and is['pending'] == 0 and is['idle'] >= tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], is['name'])
    removed = removed + 1
  end
end
return removed
