-- Stores a document in the place of a version: KEYS[1] all documents. ARGV: the name, the version ('' if there is none), the bytes.
local name, expected = ARGV[1], ARGV[2]
local found = redis.call('HGET', KEYS[1], 'version:' .. name) or ''
if found ~= expected then
  return false
end
-- Later than every version of documents that were lost.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local version = string.format('%.0f', math.max(now, (tonumber(found) or 0) + 1))
redis.call('HSET', KEYS[1], 'version:' .. name, version, 'bytes:' .. name, ARGV[3])
return version
