"""What is outside of the program: environment, settings, random numbers, clocks."""

from tests.capture.tape.changing.kinds import NET, kind

kind(
    "environment",
    "os.environ['OL_T'] = '2'",
    "x * float(os.environ['OL_T'])",
    "os.environ['OL_T'] = '3'",
    "os.environ['OL_T'] = '5'",
)
kind(
    "environment get",
    "os.environ['OL_T'] = '2'",
    "x * 2 if os.environ.get('OL_T') == '2' else x",
    "os.environ['OL_T'] = '3'",
    "del os.environ['OL_T']",
)
kind(
    "getenv",
    "os.environ['OL_T'] = '2'",
    "x * 2 if os.getenv('OL_T', '2') == '2' else x",
    "os.environ['OL_T'] = '3'",
    "os.environ['OL_T'] = '2'",
)
kind(
    "default dtype",
    "",
    "x + torch.ones(3) * torch.tensor(1.5)",
    "torch.set_default_dtype(torch.float64)",
    "torch.set_default_dtype(torch.float32)",
)
kind(
    "default dtype of python",
    "",
    "torch.arange(3) * 1.5 / 2, torch.zeros(2)",
    "torch.set_default_dtype(torch.float64)",
    "torch.set_default_dtype(torch.float32)",
)
kind(
    "default dtype read",
    "",
    "x * (2 if torch.get_default_dtype() == torch.float32 else 3)",
    "torch.set_default_dtype(torch.float64)",
    "torch.set_default_dtype(torch.float32)",
)
kind(
    "grad mode", NET, "net.lin(x)", "torch.set_grad_enabled(False)", "torch.set_grad_enabled(True)"
)
kind(
    "grad mode read",
    "",
    "x * (2 if torch.is_grad_enabled() else 3)",
    "torch.set_grad_enabled(False)",
    "torch.set_grad_enabled(True)",
)
kind(
    "deterministic",
    "",
    "x * (2 if torch.are_deterministic_algorithms_enabled() else 3)",
    "torch.use_deterministic_algorithms(True)",
    "torch.use_deterministic_algorithms(False)",
)
kind(
    "threads",
    "",
    "x * torch.get_num_threads()",
    "torch.set_num_threads(2)",
    "torch.set_num_threads(1)",
)
kind(
    "cudnn flag",
    "",
    "x * (2 if torch.backends.cudnn.benchmark else 3)",
    "torch.backends.cudnn.benchmark = True",
    "torch.backends.cudnn.benchmark = False",
)
kind(
    "matmul precision",
    "",
    "x * (2 if torch.get_float32_matmul_precision() == 'highest' else 3)",
    "torch.set_float32_matmul_precision('high')",
    "torch.set_float32_matmul_precision('highest')",
)
kind("random", "random.seed(0)", "x * random.random()", "random.seed(3)", "random.seed(5)")
kind("randint", "random.seed(0)", "x * random.randint(0, 1000)", "random.seed(3)", "random.seed(5)")
kind(
    "random choice",
    "random.seed(0)",
    "x * random.choice([1, 2, 3, 4, 5, 6])",
    "random.seed(3)",
    "random.seed(5)",
)
kind(
    "random decision",
    "random.seed(0)",
    "x * 2 if random.random() < 0.5 else x",
    "random.seed(3)",
    "random.seed(5)",
)
kind(
    "random shuffle",
    "random.seed(0)\ndef sh(n):\n    a = list(range(n)); random.shuffle(a); return a",
    "x * sh(9)[0]",
    "random.seed(3)",
    "random.seed(5)",
)
kind("random instance", "R = random.Random(3)", "x * R.random()", "R.seed(3)", "R.seed(5)")
kind(
    "np random",
    "np.random.seed(0)",
    "x * float(np.random.rand())",
    "np.random.seed(3)",
    "np.random.seed(5)",
)
kind(
    "np random array",
    "np.random.seed(0)",
    "x * torch.from_numpy(np.random.rand(3).astype('float32'))",
    "np.random.seed(3)",
    "np.random.seed(5)",
)
kind(
    "np generator",
    "R = np.random.default_rng(3)",
    "x * float(R.random())",
    "global R; R = np.random.default_rng(7)",
    "global R; R = np.random.default_rng(8)",
)
kind(
    "generator torch",
    "R = torch.Generator(); R.manual_seed(3)",
    "x * torch.rand(3, generator=R)",
    "R.manual_seed(5)",
    "global R; R = torch.Generator(); R.manual_seed(9)",
)
kind(
    "manual seed",
    "torch.manual_seed(0)",
    "x * torch.rand(3)",
    "torch.manual_seed(5)",
    "torch.manual_seed(3)",
)
kind(
    "initial seed",
    "torch.manual_seed(0)",
    "x * torch.initial_seed()",
    "torch.manual_seed(5)",
    "torch.manual_seed(3)",
)
kind(
    "contextvar",
    "V = contextvars.ContextVar('V', default=2)",
    "x * V.get()",
    "V.set(3)",
    "V.set(5)",
)
kind(
    "contextvar text",
    "V = contextvars.ContextVar('V', default='a')",
    "x * 2 if V.get() == 'a' else x",
    "V.set('b')",
    "V.set('a')",
)
kind(
    "time",
    "NOW = [1.0]\nclass T:\n    @staticmethod\n    def time(): return NOW[0]\ntime = T",
    "x * time.time()",
    "NOW[0] = 2.0",
    "NOW[0] = 5.0",
)
kind(
    "sys attr", "import sys as S\nS.ol_flag = 2", "x * S.ol_flag", "S.ol_flag = 3", "S.ol_flag = 5"
)
kind(
    "recursion limit",
    "import sys",
    "x * sys.getrecursionlimit()",
    "sys.setrecursionlimit(2000)",
    "sys.setrecursionlimit(3000)",
)
kind(
    "logging level",
    "import logging\nL = logging.getLogger('ol_test'); L.setLevel(10)",
    "x * 2 if L.isEnabledFor(20) else x",
    "L.setLevel(40)",
    "L.setLevel(10)",
)
