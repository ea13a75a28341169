#!lua flags=no-writes
-- Counts some of the dead letters by code.
--
-- KEYS: dead
-- ARGV: the entry after which to begin, the maximum number of dead letters to count
-- Returns: how many dead letters there are, the last one counted (or the one after which to begin),
--   and each code with its number
local found = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
local last, number_of = ARGV[1], {}
for _, entry in ipairs(found) do
  local code, fields = '', entry[2]
  for place = 1, #fields, 2 do
    if fields[place] == 'code' then
      code = fields[place + 1]
    end
  end
  last = entry[1]
  number_of[code] = (number_of[code] or 0) + 1
end
local numbers = {}
for code, number in pairs(number_of) do
  numbers[#numbers + 1] = { code, number }
end
return { redis.call('XLEN', KEYS[1]), last, numbers }
