-- Work for LuaJIT's compiler and for its interpreter: the results must be the same.
local bit, ffi = require 'bit', require 'ffi'

local function tell(name, value)
    print(name .. ' ' .. tostring(value))
end

local sum = 0
for i = 1, 1e7 do sum = bit.bxor(sum, i * 3) + bit.band(i, 7) end
tell('loop', sum)

local numbers, hash = {}, 0
for i = 1, 200000 do numbers[i] = (i * 7919) % 200003 end
table.sort(numbers)
for i = 1, #numbers do hash = (hash * 31 + numbers[i]) % 1000000007 end
tell('sort', hash)

local size, left, right, trace = 200, {}, {}, 0
for i = 1, size do
    left[i], right[i] = {}, {}
    for j = 1, size do left[i][j], right[i][j] = i / j, j / i + 0.5 end
end
for i = 1, size do
    for j = 1, size do
        local cell = 0
        for k = 1, size do cell = cell + left[i][k] * right[k][j] end
        trace = trace + cell * (i - j)
    end
end
tell('matrix', string.format('%.17g', trace))

local seed, letters = 7, {}
for i = 1, 50000 do
    seed = (seed * 1103515245 + 12345) % 2147483648
    letters[i] = string.char(97 + seed % 26)
end
local text, length = table.concat(letters), 0
for word in text:gmatch('[aeiou]+[^aeiou]') do length = length + #word end
tell('match', length .. ' ' .. #(text:gsub('(%w)(%w)', '%2%1%2')))

local state = ffi.new('uint64_t', 88172645463325252ULL)
for _ = 1, 2000000 do
    state = bit.bxor(state, bit.lshift(state, 13))
    state = bit.bxor(state, bit.rshift(state, 7))
    state = bit.bxor(state, bit.lshift(state, 17))
end
tell('xorshift', state)

local next_number = coroutine.wrap(function()
    local a, b = 0, 1
    while true do
        coroutine.yield(a)
        a, b = b, (a + b) % 1000000007
    end
end)
local last
for _ = 1, 300000 do last = next_number() end
tell('coroutine', last)

local total = 0
for i = 1, 800 do
    local run = loadstring('local x = ... local s = ' .. i ..
        ' for i = 1, 300 do s = (s * 31 + x) % 1000003 end return s')
    for k = 1, 10 do total = (total + run(k)) % 1000000007 end
end
tell('generate', total)

local function fib(n)
    return n < 2 and n or fib(n - 1) + fib(n - 2)
end
tell('fib', fib(30))
