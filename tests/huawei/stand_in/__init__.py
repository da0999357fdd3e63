"""A stand-in for Huawei Cloud: the parts of VPC, EIP, ECS and IAM that a NAT gateway meets, with state that lives.

- `server`: what listens; `service`: a request's way through clock, signature, policy and limits to its answer.
- `signature`: signs what was received again with the official SDK and compares; `keys`: whose keys those are.
- `policy`: which action a request is, and whether it is allowed.
- `state`: the cloud; `route_tables`, `ports`, `networks`, `public_ips`, `accounts`: its resources over the API.
- `paging`, `errors`: how lists and refusals look; `traffic`: throttling, faults on demand, and the log of calls.
- `admin`: how the cloud's owner, and a test, looks at and changes all of it past the API.
"""
