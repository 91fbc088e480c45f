# A producer in Ruby: gem install bunny (Debian: ruby-bunny), then AMQP_URL=amqp://... ruby producer.rb org-123 100
#
# Publishes persistent messages with confirms and `mandatory`, and waits for all confirms before it closes: a message
# whose producer closes at once may be lost. Ends with 1 if an event is not confirmed; publish it again with the same event_id.
# frozen_string_literal: true

require "bunny"
require "json"
require "securerandom"
require "set"
require "time"

organization = ARGV.fetch(0, "org-123")
count = Integer(ARGV.fetch(1, "100"))
bom_id = SecureRandom.uuid

begin
  connection = Bunny.new(ENV.fetch("AMQP_URL"), automatically_recover: false)
  connection.start
  channel = connection.create_channel
  channel.confirm_select
  # Not declared here: the first worker does, and the user may not be allowed to.
  exchange = Bunny::Exchange.new(channel, :topic, ENV.fetch("CNS_EVENTS_EXCHANGE", "cns.events"), no_declare: true)
  returned = Set.new
  exchange.on_return { |_, properties, _| returned << properties[:message_id] }

  count.times do |number|
    event = {
      # The same for each attempt of a step: built from its run, its name and the event.
      event_id: "#{bom_id}/enrichment/#{number}",
      event_type: "enrichment_progress",
      bom_id: bom_id,
      organization_id: organization,
      workflow_id: "enrich-#{bom_id}",
      source: "customer",
      state: { status: "running", percent: number },
      payload: { mpn: "MPN-#{number}", status: "matched", confidence: 0.97, supplier: "DigiKey" },
      created_at: Time.now.utc.iso8601(6)
    }
    exchange.publish(
      JSON.generate(event),
      routing_key: "cns.enrichment.progress",
      mandatory: true, # returned, instead of lost, if no queue takes it
      persistent: true,
      content_type: "application/json",
      message_id: event[:event_id],
      type: event[:event_type],
      priority: 4,
      app_id: "producer.rb",
      timestamp: Time.now.to_i
    )
  end
  # A broker that returns a message confirms it too; the return comes first.
  acknowledged = channel.wait_for_confirms
  left = returned.size + channel.nacked_set.size
  puts "confirmed: #{count - left}, left: #{left}"
  connection.close
  exit(acknowledged && left.zero? ? 0 : 1)
rescue Bunny::Exception, SystemCallError => error
  warn "not published: #{error.message}"
  exit 1
end
