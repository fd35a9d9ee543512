#!lua
-- Takes the lease of rows that are due: a new fencing token, and the lease's end as due time.
--
-- KEYS  1 due:interactive  2 due:bulk
-- ARGV  1 key prefix  2 lease in ms  3 most of all  4 bulk rows that come first
--       5 most of the bulk lane. The interactive lane goes first but for a small share of
--       the bulk lane, so that neither starves the other.
-- Returns for each row: id, token, lane, state before, attempts, claims, accepted at (ms),
--         entry id, progress or "", last errors or "", text
local prefix, lease = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local claimed = {}
local function take(due, lane, most)
  if most < 1 then return end
  local ids = redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, most)
  for _, id in ipairs(ids) do
    local row = prefix .. 'row:' .. id
    local is = redis.call('HMGET', row, 's', 'n', 'a', 'c', 'm', 'q', 'p', 'x')
    local text = redis.call('GET', prefix .. 'text:' .. id)
    if not is[1] or not text then
      -- Half of the row is gone: someone deleted keys. It can't be run, only be dropped.
      redis.call('ZREM', due, id)
    else
      local token, claims, state = is[2] + 1, is[4] + 1, is[1]
      if state == 'accepted' or state == 'retrying' then state = 'running' end
      redis.call('HSET', row, 'n', token, 'c', claims, 's', state)
      redis.call('ZADD', due, now + lease, id)
      claimed[#claimed + 1] = {id, token, lane, is[1], is[3], claims, is[5], is[6],
        is[7] or '', is[8] or '', text}
    end
  end
end
local most = tonumber(ARGV[3])
take(KEYS[2], 'b', math.min(most, tonumber(ARGV[4])))
local bulk = #claimed
take(KEYS[1], 'i', most - bulk)
take(KEYS[2], 'b', math.min(most - #claimed, tonumber(ARGV[5]) - bulk))
return claimed
