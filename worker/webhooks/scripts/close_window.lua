#!lua
-- Closes a sealed window: adds what came of it to the streams, and forgets the window.
--
-- KEYS  1 the window  2 windows  3 commands  4 commands:bulk  5 dead-letters
-- ARGV  1 key prefix  2 the window's id  3 how it ended, for its deliveries
--       4 how many values follow that are entries: index of the stream's key, the text
--       then the names of its deliveries
-- Returns 1 closed now, 0 closed before
--
-- Rights: XDEL 3  XDEL 4  XDEL 5  XADD 3  XADD 4  XADD 5  TYPE delivery:  HSET delivery:
-- Rights: ZREM 2  DEL 1
redis.call('ZCARD', KEYS[2])
redis.call('XLEN', KEYS[3]); redis.call('XLEN', KEYS[4]); redis.call('XLEN', KEYS[5])
if redis.call('LLEN', KEYS[1]) == 0 then
  redis.call('ZREM', KEYS[2], ARGV[2])
  return 0
end
local first_name = 5 + tonumber(ARGV[4])
-- Include: add_entries
local refused = add_entries(5, first_name - 1)
if refused then return refused end
for i = first_name, #ARGV do
  local delivery = ARGV[1] .. 'delivery:' .. ARGV[i]
  -- One that is kept no more must not come back with nothing but this.
  if redis.call('TYPE', delivery)['ok'] == 'hash' then
    redis.call('HSET', delivery, 'window:' .. ARGV[2], ARGV[3])
  end
end
redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('DEL', KEYS[1])
return 1
