-- Tells an event to the stream that its command names for replies, if it names one.
--
-- A stream whose key holds something else gets nothing: the events stream has it all. A repetition
-- would tell it again, so it comes after all that may be refused.
--
-- Its script asks for the rights TYPE, XADD and EXPIRE.
local function answer(reply, event, now, seconds)
  if reply == '' or event == '' then return end
  local kind = redis.call('TYPE', reply)['ok']
  if kind ~= 'stream' and kind ~= 'none' then return end
  redis.pcall('XADD', reply, 'MINID', '~', now - seconds * 1000, '*', 'event', event)
  redis.call('EXPIRE', reply, seconds)
end
