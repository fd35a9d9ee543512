#!lua
-- Sends a dead letter's command again and removes the letter.
--
-- KEYS  1 the stream of the command  2 dead-letters
-- ARGV  1 key of the letter  2 the command
--
-- Rights: XADD 1  XDEL 2
redis.call('XLEN', KEYS[2])
-- What may be refused comes before the removal, for a script is not rolled back.
redis.call('XADD', KEYS[1], '*', 'command', ARGV[2])
redis.call('XDEL', KEYS[2], ARGV[1])
return nil
