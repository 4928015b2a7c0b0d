wrk.method="POST"
wrk.body='{"model": "m", "messages": [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "' .. string.rep("a", 400) .. '"}], "max_tokens": 128, "temperature": 0.7}'
wrk.headers["Content-Type"]="application/json"
wrk.headers["Authorization"]="Bearer " .. (os.getenv("KEY") or "sk-bench")
local xh=os.getenv("XHL"); if xh then for k,v in xh:gmatch("([^=;]+)=([^;]+)") do wrk.headers[k]=v end end
done=function(s,l,r) io.write(string.format('{"rps": %.1f, "p50_us": %.0f, "p90_us": %.0f, "p99_us": %.0f, "max_us": %.0f, "n": %d, "non2xx": %d, "sockerr": %d}\n', s.requests/(s.duration/1e6), l:percentile(50), l:percentile(90), l:percentile(99), l.max, s.requests, s.errors.status, s.errors.connect+s.errors.read+s.errors.write+s.errors.timeout)) end
