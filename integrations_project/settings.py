"""Every setting, and the only place that reads the environment.

A variable that cannot be read never stops this file: `ENVIRONMENT.problems` collects them, a safe
default stands in, and the system checks (integrations_project/checks.py) refuse to go on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ

from integrations_project.databases import database
from integrations_project.environment import Environment
from integrations_project.logging import FORMATS, LEVELS, logging_config
from outbound.topology import queues

ENVIRONMENT = env = Environment(environ.Env.ENVIRON)

LOOPBACK = ("localhost", "127.0.0.1", "::1")
LARGEST_PORT = 65535

BASE_DIR = Path(__file__).resolve().parent.parent
STATE_DIR = Path(env.text("STATE_DIR", str(BASE_DIR / "var")))

DEBUG = env.flag("DEBUG")
DEFAULT_SECRET_KEY = "insecure-and-known-to-everybody-for-development-only"  # noqa: S105 - refused
SECRET_KEY = env.secret("SECRET_KEY", DEFAULT_SECRET_KEY)
FIELD_ENCRYPTION_KEYS = env.secret_words("FIELD_ENCRYPTION_KEYS")

PUBLIC_URL = env.url("PUBLIC_URL")
PUBLIC_HOST = urlsplit(PUBLIC_URL).hostname or ""
TRUST_PROXY = env.flag("TRUST_PROXY")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS") or ([PUBLIC_HOST] if PUBLIC_HOST else [])

INSTALLED_APPS = [
    "integrations_project",
    "api",
    "payments",
    "notifications",
    "webhooks",
    "outbound",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "integrations_project.middleware.RequestIdMiddleware",
    "integrations_project.probes.ProbeMiddleware",
    "integrations_project.middleware.WebhookMiddleware",
    "api.middleware.ProblemMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "integrations_project.middleware.ContentSecurityPolicyMiddleware",
    "api.middleware.DirectMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "integrations_project.urls"
WSGI_APPLICATION = "integrations_project.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

LANGUAGE_CODE = "en"
USE_I18N = False
TIME_ZONE = "UTC"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

WORKER_CONCURRENCY = env.whole("WORKER_CONCURRENCY", 16)
DATABASES = {
    "default": database(
        env,
        default=f"sqlite:///{STATE_DIR / 'holdfast.sqlite3'}",
        connections=WORKER_CONCURRENCY + 4,
        parse=environ.Env.db_url_config,
    )
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

_public_scheme = urlsplit(PUBLIC_URL).scheme
# Without PUBLIC_URL the safe guess: a cookie that is not sent over plain http.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not DEBUG and _public_scheme != "http"
SECURE_SSL_REDIRECT = not DEBUG and _public_scheme == "https"
SECURE_REDIRECT_EXEMPT = [r"^livez$", r"^readyz$", r"^metrics$", r"^webhooks/"]
SECURE_HSTS_SECONDS = 31_536_000 if SECURE_SSL_REDIRECT else 0
# Whether all of the domain's other hosts speak https is not ours to promise.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUST_PROXY else None
USE_X_FORWARDED_HOST = TRUST_PROXY
CSRF_TRUSTED_ORIGINS = [f"{_public_scheme}://{urlsplit(PUBLIC_URL).netloc}"] if PUBLIC_URL else []
X_FRAME_OPTIONS = "DENY"
# Nothing from elsewhere, nothing inline. https://developer.mozilla.org/docs/Web/HTTP/CSP
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)

STATIC_URL = "/static/"
# Served from where the apps keep them: no step between a checkout and a working admin.
WHITENOISE_USE_FINDERS = True

WEBHOOK_MAX_BYTES = env.whole("WEBHOOK_MAX_BYTES", 1_048_576)
# Failed proofs from one address, for one source, in one process: more are answered 429.
WEBHOOK_FAILURES_PER_MINUTE = env.whole("WEBHOOK_FAILURES_PER_MINUTE", 60)
# Refused deliveries of one source within a minute, over all processes, that raise an alert.
WEBHOOK_REJECTS_ALERT = env.whole("WEBHOOK_REJECTS_ALERT", 100)
# Days after which a finished event's body, and then its row, is forgotten.
WEBHOOK_BODY_DAYS = env.whole("WEBHOOK_BODY_DAYS", 30)
WEBHOOK_ROW_DAYS = env.whole("WEBHOOK_ROW_DAYS", 180)
# The webhook view enforces its own cap with its own answer; Django's must not come first.
DATA_UPLOAD_MAX_MEMORY_SIZE = max(2_621_440, WEBHOOK_MAX_BYTES + 1)

# How many requests of one web process may wait for a provider at a time.
API_INLINE_CALLS = env.whole("API_INLINE_CALLS", 4)

# What Django itself and other apps send with send_mail becomes a message of ours.
EMAIL_BACKEND = "notifications.backend.DurableEmailBackend"
# Who sends, in which order; without it the only provider that is configured.
EMAIL_ROUTE = env.words("EMAIL_ROUTE")
SMS_ROUTE = env.words("SMS_ROUTE")
PUSH_ROUTE = env.words("PUSH_ROUTE")
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", "webmaster@localhost")
# Django's own settings of a mail server; once there is a host, the adapter `smtp` can send.
EMAIL_HOST = env.text("EMAIL_HOST")
EMAIL_HOST_USER = env.text("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = env.secret("EMAIL_HOST_PASSWORD")
EMAIL_USE_SSL = env.flag("EMAIL_USE_SSL")
_starttls = env.optional_flag("EMAIL_USE_TLS")
if EMAIL_USE_SSL and _starttls:
    env.refuse("EMAIL_USE_TLS", "is set, and so is EMAIL_USE_SSL: unset one of them")
if _starttls is None:
    _starttls = EMAIL_HOST not in LOOPBACK
EMAIL_USE_TLS = _starttls and not EMAIL_USE_SSL
_mail_port = 465 if EMAIL_USE_SSL else 587
EMAIL_PORT = env.whole("EMAIL_PORT", _mail_port)
if EMAIL_PORT > LARGEST_PORT:
    env.refuse("EMAIL_PORT", f"must be a port, at most {LARGEST_PORT}")
    EMAIL_PORT = _mail_port
# All attachments of one email together, before they are encoded.
EMAIL_MAX_ATTACHMENT_BYTES = env.whole("EMAIL_MAX_ATTACHMENT_BYTES", 15_000_000)

LOG_FORMAT = env.choice("LOG_FORMAT", FORMATS, default="console" if DEBUG else "json")
LOG_LEVEL = env.choice("LOG_LEVEL", LEVELS, default="INFO")
LOGGING_CONFIG = "integrations_project.logging.configure"
LOGGING = logging_config(log_format=LOG_FORMAT, level=LOG_LEVEL)
SENTRY_DSN = env.secret("SENTRY_DSN")

METRICS_ENABLED = env.flag("METRICS_ENABLED")
METRICS_TOKEN = env.secret("METRICS_TOKEN")
# In which the web's processes, and a worker on the same machine, add up their counters.
METRICS_DIR = env.text("METRICS_DIR", str(STATE_DIR / "metrics"))
# Modules with `gauges` for /metrics and `findings` for `manage.py doctor`.
VITALS = ["outbound.vitals", "webhooks.vitals", "notifications.vitals"]

CELERY_BROKER_URL = env.broker_url("CELERY_BROKER_URL", default="memory://")
# Celery looks into the environment by itself, and past what was made of the variable here.
CELERY_BROKER_READ_URL = CELERY_BROKER_WRITE_URL = CELERY_BROKER_URL
# A broker inside the worker's own process; its dispatcher reads the rows.
EMBEDDED_BROKER = CELERY_BROKER_URL.startswith("memory:")
_embedded = env.optional_flag("EMBEDDED")
EMBEDDED = DEBUG and EMBEDDED_BROKER if _embedded is None else _embedded

CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = (
    {"polling_interval": 0.02}
    if EMBEDDED_BROKER
    # Confirms wait for ever on a frozen broker unless the socket has timeouts of its own.
    else {"confirm_publish": True, "read_timeout": 3, "write_timeout": 3}
)
CELERY_BROKER_CONNECTION_TIMEOUT = 2
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_POOL_ACQUIRE_TIMEOUT = 2
CELERY_BROKER_HEARTBEAT = 30

MAINTENANCE_QUEUE = "maintenance-v1"
CELERY_TASK_QUEUES = queues(
    ("payments-v1", "notifications-v1", "webhooks-v1", MAINTENANCE_QUEUE), in_memory=EMBEDDED_BROKER
)
CELERY_TASK_CREATE_MISSING_QUEUES = False
CELERY_TASK_DEFAULT_QUEUE = MAINTENANCE_QUEUE
CELERY_TASK_DEFAULT_EXCHANGE = "holdfast"
CELERY_TASK_DEFAULT_EXCHANGE_TYPE = "topic"
CELERY_TASK_DEFAULT_ROUTING_KEY = MAINTENANCE_QUEUE
# outbound.deliver_call and outbound.resolve_call are routed by the row's adapter, as published.
CELERY_TASK_ROUTES = {
    "outbound.sweep": {"queue": MAINTENANCE_QUEUE},
    "outbound.drain_dead_letters": {"queue": MAINTENANCE_QUEUE},
    "webhooks.sweep_events": {"queue": MAINTENANCE_QUEUE},
    "webhooks.prune_events": {"queue": MAINTENANCE_QUEUE},
    "webhooks.catch_up": {"queue": MAINTENANCE_QUEUE},
    "notifications.sweep_messages": {"queue": MAINTENANCE_QUEUE},
    "webhooks.go_on_replaying": {"queue": MAINTENANCE_QUEUE},
    "api.forget_requests": {"queue": MAINTENANCE_QUEUE},
    "webhooks.*": {"queue": "webhooks-v1"},
}

CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_ACKS_ON_FAILURE = False
CELERY_TASK_ALWAYS_EAGER = False
CELERY_TASK_PUBLISH_RETRY_POLICY = {
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.2,
    "interval_max": 0.2,
}
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = TIME_ZONE
CELERY_ENABLE_UTC = True

CELERY_WORKER_POOL = "threads"
CELERY_WORKER_CONCURRENCY = WORKER_CONCURRENCY
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# Longer than any call may take: the total deadline is 15 s.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 20
# What waits in memory is on its rows: a worker with nothing in hand stops at once.
CELERY_WORKER_ENABLE_SOFT_SHUTDOWN_ON_IDLE = False
# A thread cannot be cancelled; the row's lease decides whose result counts.
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_REDIRECT_STDOUTS = False

LEASE_SECONDS = env.seconds("LEASE_SECONDS", 30)
SWEEP_SECONDS = env.seconds("SWEEP_SECONDS", 5)
OUTBOUND_LEASE_SECONDS = LEASE_SECONDS
OUTBOUND_SWEEP_SECONDS = SWEEP_SECONDS
# How long a hint may take before the sweep announces its row again, first and further times.
OUTBOUND_HINT_GRACE_SECONDS = 2 * SWEEP_SECONDS
OUTBOUND_REANNOUNCE_SECONDS = 12 * SWEEP_SECONDS
_schedule = env.seconds_list("RETRY_SCHEDULE")
OUTBOUND_POLICY: dict[str, Any] = {"schedule": _schedule} if _schedule else {}
_breaker = {
    "failure_rate": env.optional_number("BREAKER_FAILURE_RATE"),
    "minimum_calls": env.optional_number("BREAKER_MINIMUM_CALLS"),
    "window": env.optional_number("BREAKER_WINDOW"),
    "consecutive_failures": env.optional_number("BREAKER_CONSECUTIVE_FAILURES"),
    "slow_rate": env.optional_number("BREAKER_SLOW_RATE"),
    "slow_seconds": env.optional_number("BREAKER_SLOW_SECONDS"),
    "open_seconds": env.optional_number("BREAKER_OPEN_SECONDS"),
    "open_seconds_max": env.optional_number("BREAKER_OPEN_SECONDS_MAX"),
    "probes": env.optional_number("BREAKER_PROBES"),
    "successes": env.optional_number("BREAKER_SUCCESSES"),
}
OUTBOUND_BREAKER: dict[str, Any] = {k: v for k, v in _breaker.items() if v is not None}
_budget = {
    "retry_ratio": env.optional_number("RETRY_BUDGET_RATIO"),
    "retry_floor": env.optional_number("RETRY_BUDGET_FLOOR"),
    "retry_window": env.optional_number("RETRY_BUDGET_WINDOW"),
}
OUTBOUND_LIMITS: dict[str, Any] = {k: v for k, v in _budget.items() if v is not None}
# After a circuit has closed, its parked calls are let go twice as many each step, for 30 steps.
OUTBOUND_RAMP_STEP_SECONDS = env.seconds("BREAKER_RAMP_STEP", 1)
ALLOW_HTTP_PROVIDERS = env.words("ALLOW_HTTP_PROVIDERS")

# Work that nobody took within a minute is stale: there will be a next time. Not less, or a busy
# worker would never sweep.
_periodic_options = {"expires": max(60, 12 * SWEEP_SECONDS)}
CELERY_BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "outbound-sweep": {
        "task": "outbound.sweep",
        "schedule": SWEEP_SECONDS,
        "options": _periodic_options,
    },
    "webhooks-sweep": {
        "task": "webhooks.sweep_events",
        "schedule": SWEEP_SECONDS,
        "options": _periodic_options,
    },
    "notifications-sweep": {
        "task": "notifications.sweep_messages",
        "schedule": SWEEP_SECONDS,
        "options": _periodic_options,
    },
    "webhooks-prune": {
        "task": "webhooks.prune_events",
        "schedule": 600.0,
        "options": _periodic_options,
    },
    "api-forget-requests": {
        "task": "api.forget_requests",
        "schedule": 60.0,
        "options": _periodic_options,
    },
}
if env.flag("CATCH_UP", default=True):
    CELERY_BEAT_SCHEDULE["webhooks-catch-up"] = {
        "task": "webhooks.catch_up",
        "schedule": 3600.0,
        "options": _periodic_options,
    }
if not EMBEDDED_BROKER:
    CELERY_BEAT_SCHEDULE["dead-letters"] = {
        "task": "outbound.drain_dead_letters",
        "schedule": 30.0,
        "options": _periodic_options,
    }
CELERY_BEAT_SCHEDULE_FILENAME = env.text("BEAT_SCHEDULE", str(STATE_DIR / "celerybeat-schedule"))

STRIPE_SECRET_KEY = env.secret("STRIPE_SECRET_KEY")
_stripe_webhook_secrets = [
    *env.secret_words("STRIPE_WEBHOOK_SECRETS"),
    *env.secret_words("STRIPE_WEBHOOK_SECRET"),
]
OUTBOUND_ADAPTERS: dict[str, dict[str, Any]] = {
    "stripe": {
        "ADAPTER": "payments.adapters.stripe.StripeAdapter",
        "QUEUE": "payments-v1",
        "OPTIONS": {
            "API_KEY": STRIPE_SECRET_KEY,
            "API_BASE": env.url("STRIPE_API_BASE", "https://api.stripe.com"),
            "API_VERSION": env.text("STRIPE_API_VERSION", "2023-10-16"),
        },
        "LIMITS": {
            "rate": env.optional_number("STRIPE_RATE_LIMIT"),
            "concurrency": env.optional_number("STRIPE_CONCURRENCY"),
        },
    },
}
OUTBOUND_ADAPTERS["console"] = {
    "ADAPTER": "notifications.adapters.console.ConsoleAdapter",
    "QUEUE": "notifications-v1",
}
TWILIO_AUTH_TOKEN = env.secret("TWILIO_AUTH_TOKEN")
AWS_REGION = env.text("AWS_REGION")
# Each is there once its first option is set.
for _name, _adapter, _options in (
    (
        "sendgrid",
        "sendgrid.SendGridAdapter",
        {
            "API_KEY": env.secret("SENDGRID_API_KEY"),
            "API_BASE": env.url("SENDGRID_API_BASE", "https://api.sendgrid.com"),
        },
    ),
    (
        "mailgun",
        "mailgun.MailgunAdapter",
        {
            "API_KEY": env.secret("MAILGUN_API_KEY"),
            "DOMAIN": env.text("MAILGUN_DOMAIN"),
            "API_BASE": env.url("MAILGUN_API_BASE", "https://api.mailgun.net"),
        },
    ),
    (
        "smtp",
        "smtp.SmtpAdapter",
        {
            "HOST": EMAIL_HOST,
            "PORT": EMAIL_PORT,
            "USER": EMAIL_HOST_USER,
            "PASSWORD": EMAIL_HOST_PASSWORD,
            "USE_TLS": EMAIL_USE_TLS,
            "USE_SSL": EMAIL_USE_SSL,
        },
    ),
    (
        "ses",
        "ses.SesAdapter",
        {
            "ACCESS_KEY_ID": env.secret("AWS_ACCESS_KEY_ID"),
            "SECRET_ACCESS_KEY": env.secret("AWS_SECRET_ACCESS_KEY"),
            "SESSION_TOKEN": env.secret("AWS_SESSION_TOKEN"),
            "REGION": AWS_REGION,
            "API_BASE": env.url("SES_API_BASE", f"https://email.{AWS_REGION}.amazonaws.com"),
            "CONFIGURATION_SET": env.text("SES_CONFIGURATION_SET"),
        },
    ),
    (
        "postmark",
        "postmark.PostmarkAdapter",
        {
            "SERVER_TOKEN": env.secret("POSTMARK_SERVER_TOKEN"),
            "API_BASE": env.url("POSTMARK_API_BASE", "https://api.postmarkapp.com"),
            "MESSAGE_STREAM": env.text("POSTMARK_MESSAGE_STREAM"),
        },
    ),
    (
        "resend",
        "resend.ResendAdapter",
        {
            "API_KEY": env.secret("RESEND_API_KEY"),
            "API_BASE": env.url("RESEND_API_BASE", "https://api.resend.com"),
        },
    ),
    (
        "twilio",
        "twilio.TwilioAdapter",
        {
            "AUTH_TOKEN": TWILIO_AUTH_TOKEN,
            "ACCOUNT_SID": env.text("TWILIO_ACCOUNT_SID"),
            "API_BASE": env.url("TWILIO_API_BASE", "https://api.twilio.com"),
            "FROM": env.text("TWILIO_FROM"),
            "MESSAGING_SERVICE_SID": env.text("TWILIO_MESSAGING_SERVICE_SID"),
            "STATUS_CALLBACK": f"{PUBLIC_URL}/webhooks/twilio" if PUBLIC_URL else "",
        },
    ),
    (
        "fcm",
        "fcm.FcmAdapter",
        {
            "CREDENTIALS": env.secret_document(
                "FIREBASE_CREDENTIALS",
                fields=("project_id", "client_email", "private_key", "token_uri"),
            ),
            "API_BASE": env.url("FCM_API_BASE", "https://fcm.googleapis.com"),
        },
    ),
):
    _limits = {
        "rate": env.optional_number(f"{_name.upper()}_RATE_LIMIT"),
        "concurrency": env.optional_number(f"{_name.upper()}_CONCURRENCY"),
    }
    if next(iter(_options.values())):
        OUTBOUND_ADAPTERS[_name] = {
            "ADAPTER": f"notifications.adapters.{_adapter}",
            "QUEUE": "notifications-v1",
            "OPTIONS": _options,
            "LIMITS": _limits,
        }
WEBHOOK_SOURCES: dict[str, dict[str, Any]] = {
    "stripe": {
        "SOURCE": "webhooks.providers.stripe.StripeSource",
        "OPTIONS": {
            "SECRETS": list(dict.fromkeys(_stripe_webhook_secrets)),
            # https://docs.stripe.com/keys: sk_ and rk_ keys tell their mode; None: not known
            "LIVEMODE": {"test": False, "live": True}.get(STRIPE_SECRET_KEY[3:7]),
            "TOLERANCE": 300,
        },
    },
}
if _topics := env.words("SNS_TOPIC_ARNS"):
    WEBHOOK_SOURCES["sns"] = {
        "SOURCE": "webhooks.providers.sns.SnsSource",
        "OPTIONS": {"TOPIC_ARNS": list(dict.fromkeys(_topics))},
    }
    OUTBOUND_ADAPTERS["sns"] = {
        "ADAPTER": "webhooks.adapters.sns.SnsAdapter",
        "QUEUE": "webhooks-v1",
    }
_beside = {"twilio": [TWILIO_AUTH_TOKEN] if TWILIO_AUTH_TOKEN else []}  # it signs what Twilio sends
# Each is there once its variable is set.
for _name, _source, _variable in (
    ("github", "github.GitHubSource", "GITHUB_WEBHOOK_SECRETS"),
    ("mailgun", "mailgun.MailgunSource", "MAILGUN_WEBHOOK_SIGNING_KEYS"),
    ("postmark", "postmark.PostmarkSource", "POSTMARK_WEBHOOK_CREDENTIALS"),
    ("resend", "resend.ResendSource", "RESEND_WEBHOOK_SECRETS"),
    ("sendgrid", "sendgrid.SendGridSource", "SENDGRID_WEBHOOK_PUBLIC_KEYS"),
    ("slack", "slack.SlackSource", "SLACK_SIGNING_SECRETS"),
    ("standard", "standard.StandardSource", "STANDARD_WEBHOOK_SECRETS"),
    ("svix", "standard.SvixSource", "SVIX_WEBHOOK_SECRETS"),
    ("twilio", "twilio.TwilioSource", "TWILIO_AUTH_TOKENS"),
):
    if _secrets := [*env.secret_words(_variable), *_beside.get(_name, [])]:
        WEBHOOK_SOURCES[_name] = {
            "SOURCE": f"webhooks.providers.{_source}",
            "OPTIONS": {"SECRETS": list(dict.fromkeys(_secrets))},
        }
