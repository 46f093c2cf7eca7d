-- ARGV[4]: the id.
local id = ARGV[4]
local first = redis.call('ZRANGEBYLEX', IDS, '[' .. id .. '\255', '(' .. id .. '\255:', 'LIMIT', 0, 1)[1]
return { head(), first and tonumber(string.sub(first, #id + 2)) or false }
