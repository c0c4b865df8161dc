// An example of each action's fields, whole enough to be sent once the ids are those of the account.

const tomorrow = () => `${new Date(Date.now() + 86400000).toISOString().slice(0, 16)}:00Z`;
const ON = { entity_type: "lead", entity_id: 12345678 };

/** The actions by name, each with a function that gives an example. */
export const EXAMPLES = {
  add_note: () => ({ ...ON, text: "Called back, prefers mornings" }),
  create_lead: () => ({ name: "Kitchen", price: 900, contact: { name: "Anna", phones: [{ value: "+15550100" }] } }),
  update_lead: () => ({ lead_id: 12345678, price: 1200, tags_to_add: ["hot"] }),
  create_contact: () => ({ name: "Anna", phones: [{ value: "+15550100" }], emails: [{ value: "anna@example.com" }] }),
  update_contact: () => ({ contact_id: 12345678, phones: [{ value: "+15550101", kind: "MOB" }] }),
  create_task: () => ({ ...ON, text: "Send the offer", complete_till: tomorrow() }),
  create_call_note: () => ({ ...ON, direction: "in", phone: "+15550100", duration_seconds: 61, status: "conversation" }),
  create_meeting_note: () => ({ ...ON, text: "Measure the kitchen", at: tomorrow(), duration_seconds: 3600 }),
  send_email: () => ({ ...ON, to: ["anna@example.com"], subject: "Your offer", text: "Here it is." }),
};
