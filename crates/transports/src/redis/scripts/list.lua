-- ARGV[4..5]: the number after which to go on, how many at most. The last number, if there is any, and subscribers and
-- records by turns.
local NODE_BYTES = 32
local listed = redis.call('ZRANGEBYSCORE', ORDER, '(' .. ARGV[4], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[5])
local found = {}
for at = 1, #listed, 2 do
  found[at] = listed[at]
  found[at + 1] = string.sub(redis.call('HGET', SUBSCRIBERS, listed[at]) or '', NODE_BYTES + 1)
end
return { head(), tonumber(listed[#listed]) or false, found }
