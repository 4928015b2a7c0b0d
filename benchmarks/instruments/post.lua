wrk.method="POST"
local prompt=string.rep("a", 400)
local kb=os.getenv("PROMPT_KB")
-- As text is: mostly plain, a line break escaped now and then, a letter beyond ASCII here and there.
if kb then prompt=string.rep([[The quick brown fox of the café jumps over the lazy dog and says \"no\".\n]], math.floor(tonumber(kb)*1024/77)) end
wrk.body='{"model": "m", "messages": [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "' .. prompt .. '"}], "max_tokens": 128, "temperature": 0.7}'
wrk.headers["Content-Type"]="application/json"
wrk.headers["Authorization"]="Bearer " .. (os.getenv("KEY") or "sk-bench")
local xh=os.getenv("XHL"); if xh then for k,v in xh:gmatch("([^=;]+)=([^;]+)") do wrk.headers[k]=v end end
done=function(s,l,r) io.write(string.format('{"rps": %.1f, "p50_us": %.0f, "p90_us": %.0f, "p99_us": %.0f, "max_us": %.0f, "n": %d, "non2xx": %d, "sockerr": %d}\n', s.requests/(s.duration/1e6), l:percentile(50), l:percentile(90), l:percentile(99), l.max, s.requests, s.errors.status, s.errors.connect+s.errors.read+s.errors.write+s.errors.timeout)) end
